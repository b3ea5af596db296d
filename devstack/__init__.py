"""The real servers, from packages, on loopback: PostgreSQL, an S3 server and OpenBao.

Tests, the demo and the benchmarks use them. Everything a server writes is below one directory that the caller names,
and every server dies with the process that started it, however that process ends (``devstack/launch.py``).
"""
