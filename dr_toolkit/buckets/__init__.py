"""Object storage as a source and a target of backups."""
