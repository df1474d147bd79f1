"""One daemon: its configuration, its socket, its life. What the device decides is in `device`, audio in `backends`."""
