"""What persists: the stores, the group-commit worker, maintenance and the command line."""
