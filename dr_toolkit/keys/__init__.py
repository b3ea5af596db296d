"""Recipients: what can unwrap the repository's keys."""
