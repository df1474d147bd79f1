"""A package for the tests; what is installed is `vsnd_command` alone."""
