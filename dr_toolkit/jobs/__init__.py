"""The use cases: each module is one job that a command, a CronJob or a schedule runs."""
