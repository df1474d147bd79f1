"""The daemon among other programs: its sandbox, its socket, its service manager, its sudden end."""
