"""What persists: the backends, the group-commit worker, upkeep and the command line."""
