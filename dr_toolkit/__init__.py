"""drctl: backup and disaster recovery for the Conduktor Platform."""

__version__ = "0.1.0"
