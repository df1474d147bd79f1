"""Audio servers of the tests' own: private, headless, without D-Bus or hardware, ended with the test."""
