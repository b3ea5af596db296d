"""PostgreSQL servers from packages: 13 to 18 (``versions`` says which). TLS is tried with 17; the packaged 18 has none."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

from devstack import programs, sql, versions
from devstack.managed import Managed
from devstack.tls import Authority
from dr_toolkit.errors import ProgramError

SOCKET_PATH_LIMIT = 100  # the kernel's is 107 bytes
CERTIFICATE_USER = "cert_user"
FIRST_BUILTIN_LOCALE = 17
FIRST_CHECKSUMS_BY_DEFAULT = 18

# A killed server still keeps what was committed: the kernel has it. So ``synchronous_commit`` stays on.
FAST = {"fsync": "off", "full_page_writes": "off"}
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "max_connections": "60",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "password_encryption": "scram-sha-256",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class PostgresServer(Managed):
    """One PostgreSQL server with its own data directory; ``start`` makes it on first use.

    ``stop`` keeps data and port, so that the server can come back. ``with`` removes everything at its end.

    Args:
        root: a directory of its own; made if missing. Root starts PostgreSQL as another user: where that user cannot
            reach ``root``, the data go to a directory of their own below the system's temporary directory.
        version: the major version.
        tls: offer TLS (17 only) and demand it over TCP. ``cert_user`` logs in with ``client_certificate`` only.
        fsync: run as safely, and as slowly, as in production.
        checksums: of pages; None for what the version does by itself.
        settings: more lines for postgresql.conf; read again at each start.
    """

    host = "127.0.0.1"
    superuser = "postgres"

    def __init__(
        self,
        root: Path,
        *,
        version: int = 18,
        tls: bool = False,
        fsync: bool = False,
        checksums: bool | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        if tls and version != 17:
            raise ProgramError("the packaged PostgreSQL 18 is built without TLS", hint="use version=17")
        self.version = version
        self.port = programs.free_port()
        self.password = secrets.token_urlsafe(18)
        self.settings = dict(settings or {})
        self.bin_dir = versions.server_programs(version)
        self._checksums = checksums
        self._user = programs.unprivileged_user()
        self._fsync = fsync
        reachable = self._reachable(root)
        server = programs.Server(
            f"PostgreSQL {version}", reachable / "postgres.log", user=self._user, death_signal=signal.SIGQUIT
        )
        super().__init__(reachable, server)
        self.data = self.root / "data"
        self.socket_dir = self._short(self.root / "run")
        self._server_programs = self._readable_programs()
        self.authority = Authority(self.root / "tls") if tls else None

    @property
    def ca_file(self) -> Path | None:
        """The certificate of the private authority, where TLS is on."""
        return self.authority.ca_file if self.authority else None

    def dsn(self, database: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """Say how to connect over TCP.

        Args:
            database: any name, also an odd one.
            user: the superuser, if not given.
            password: the superuser's, if not given.

        Returns:
            A URL for libpq.
        """
        account = f"{quote(user or self.superuser, safe='')}:{quote(password or self.password, safe='')}"
        tls = (
            f"?sslmode=verify-full&sslrootcert={quote(str(self.ca_file), safe='')}" if self.authority else ""
        )
        return f"postgresql://{account}@{self.host}:{self.port}/{quote(database, safe='')}{tls}"

    def client_certificate(self, user: str = CERTIFICATE_USER) -> tuple[Path, Path]:
        """Make a certificate with which a user logs in, where TLS is on.

        Args:
            user: the user's name.

        Returns:
            The files of the certificate and of its key.
        """
        if self.authority is None:
            raise ProgramError(
                "client certificates need a server with TLS", hint="PostgresServer(..., tls=True)"
            )
        return self.authority.issue_client(user)

    def start(self, *options: str) -> Self:
        """Start the server and wait until it takes connections.

        Args:
            options: more of the server's command line.

        Returns:
            The server itself.
        """
        if self.running:
            return self
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        self._write_settings()
        self._server.start([str(self._server_programs / "postgres"), "-D", str(self.data), *options])
        self._server.wait_until(self._ready, timeout=60)
        if self.authority and not self._certificate_user_exists():
            sql.execute(self.dsn(), f"CREATE ROLE {CERTIFICATE_USER} LOGIN")
        return self

    def stop(self) -> None:
        """End the server in good order: sessions are cut, data are kept."""
        self._server.stop(signal.SIGINT, signal.SIGQUIT)

    def restart(self) -> None:
        """Stop and start, with the settings as they are now."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL every process of the server, as a power cut would; ``start`` recovers."""
        self._server.kill_tree()

    def remove(self) -> None:
        """Stop the server and delete everything that it wrote."""
        self._server.stop(signal.SIGQUIT)
        for path in (self.root, self.socket_dir):
            shutil.rmtree(path, ignore_errors=True)

    def create_database(self, name: str) -> str:
        """Make an empty database.

        Args:
            name: any name.

        Returns:
            Its dsn.
        """
        sql.execute(self.dsn(), f"CREATE DATABASE {sql.quoted(name)} TEMPLATE template0")
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and the sessions in it; a missing one is fine.

        Args:
            name: any name.
        """
        sql.execute(self.dsn(), f"DROP DATABASE IF EXISTS {sql.quoted(name)} WITH (FORCE)")

    def _initialize(self) -> None:
        self._make(self.data, 0o700)
        self._make(self.socket_dir, 0o755)
        password_file = self.root / "password"
        password_file.write_text(self.password + "\n")
        password_file.chmod(0o600)
        self._give(password_file)
        try:
            programs.run(
                [
                    str(self._server_programs / "initdb"),
                    *("-D", str(self.data), "-U", self.superuser, f"--pwfile={password_file}"),
                    *("--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"),
                    *_initdb_options(self.version, self._checksums),
                ],
                user=self._user,
            )
        finally:
            password_file.unlink()
        self._write_access_rules()

    def _write_access_rules(self) -> None:
        rules = ["local all all scram-sha-256", "local replication all scram-sha-256"]
        if self.authority:
            self._give(*self.authority.issue_server())
            rules += [
                f"hostssl all {CERTIFICATE_USER} 127.0.0.1/32 cert",
                "hostssl all all 127.0.0.1/32 scram-sha-256",
                "hostssl replication all 127.0.0.1/32 scram-sha-256",
            ]
        else:
            rules += [
                "host all all 127.0.0.1/32 scram-sha-256",
                "host replication all 127.0.0.1/32 scram-sha-256",
            ]
        (self.data / "pg_hba.conf").write_text("\n".join(rules) + "\n")

    def _write_settings(self) -> None:
        settings = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.socket_dir)}
        if not self._fsync:
            settings |= FAST
        if self.authority:
            settings |= {
                "ssl": "on",
                "ssl_ca_file": str(self.authority.ca_file),
                "ssl_cert_file": str(self.authority.server_certificate),
                "ssl_key_file": str(self.authority.server_key),
            }
        settings |= self.settings
        lines = [f"{name} = {_setting(value)}" for name, value in settings.items()]
        (self.data / "postgresql.conf").write_text("\n".join(lines) + "\n")
        self._give(self.data / "postgresql.conf", self.data / "pg_hba.conf")

    def _ready(self) -> bool:
        # What pg_ctl looks at; it needs no connection. Line 1 is the process, line 8 its state.
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _certificate_user_exists(self) -> bool:
        return bool(sql.rows(self.dsn(), "SELECT 1 FROM pg_roles WHERE rolname = %s", CERTIFICATE_USER))

    def _reachable(self, root: Path) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        if self._user is None:
            return root
        root.chmod(0o755)
        if programs.open_to_all(root):
            return root
        return _temporary_directory()

    def _short(self, directory: Path) -> Path:
        if len(os.fsencode(directory / ".s.PGSQL.65535.lock")) <= SOCKET_PATH_LIMIT:
            return directory
        return _temporary_directory()

    def _readable_programs(self) -> Path:
        if self._user is None or programs.open_to_all(self.bin_dir / "postgres"):
            return self.bin_dir
        return _copy_programs(self.bin_dir, self.root / "programs")

    def _make(self, path: Path, mode: int) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        self._give(path)

    def _give(self, *paths: Path) -> None:
        if self._user is not None:
            for path in paths:
                shutil.chown(path, self._user)


def _initdb_options(version: int, checksums: bool | None) -> list[str]:
    options = ["--locale=C"]
    if version >= FIRST_BUILTIN_LOCALE:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if checksums:
        options.append("--data-checksums")
    elif checksums is False and version >= FIRST_CHECKSUMS_BY_DEFAULT:
        options.append("--no-data-checksums")
    return options


def _setting(value: str) -> str:
    """Quote a value for postgresql.conf."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _copy_programs(bin_dir: Path, target: Path) -> Path:
    """Copy a PostgreSQL that other users cannot reach, with its libraries at the same relative places."""
    install = bin_dir.parent
    package = install.parent
    copies = {install: target / package.name / install.name}
    libraries = package.with_name(package.name + ".libs")
    if libraries.exists():
        copies[libraries] = target / libraries.name
    for source, copy in copies.items():
        if not copy.exists():
            shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
    return copies[install] / "bin"


def _temporary_directory() -> Path:
    """Make a directory that every user can reach, also where TMPDIR is closed to others."""
    places = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    parent = next((place for place in places if programs.open_to_all(Path(place))), places[0])
    path = Path(tempfile.mkdtemp(prefix="devstack-", dir=parent))
    path.chmod(0o755)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
