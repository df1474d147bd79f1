"""What stands beside the daemon: one module (or package) a subcommand."""
