"""What a person, a script or Prometheus sees."""
