"""How to reach one PostgreSQL database, in libpq's terms.

`ConnectionSettings` holds resolved values. It becomes either keyword arguments for a session of our own (`conninfo`) or an
environment for PostgreSQL's programs (`credentials`). A password never becomes part of an argument list or of an environment
variable: programs find it in a file that only this user can read and that is removed afterwards.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from dr_toolkit.errors import ConfigError
from dr_toolkit.postgres.connection_url import UrlParts, parse_url

DEFAULT_PORT = 5432
CONNECT_TIMEOUT_S = 15
APPLICATION_NAME = "drctl"
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_TLS_REQUIRED = frozenset({"require", "verify-ca", "verify-full"})

_ENVIRONMENT_OF_OPTION = {
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "krbsrvname": "PGKRBSRVNAME",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "options": "PGOPTIONS",
    "require_auth": "PGREQUIREAUTH",
    "sslcrl": "PGSSLCRL",
    "sslcrldir": "PGSSLCRLDIR",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslsni": "PGSSLSNI",
}
"""libpq parameters that a URL may carry and that programs take from the environment; all others go into a service file."""

_SERVICE = "drctl"


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """One database on one server, or on the first fitting one of several.

    Attributes:
        hosts: pairs of host (a name, an address or a socket directory) and port, tried in order.
        database: the database's name.
        user: the role to log in as.
        password: None for methods that need none (peer, certificate, trust). Kept out of every text form.
        sslmode: one of `SSL_MODES`.
        sslrootcert: file with the certificate authorities to believe (PEM), or ``system``.
        sslcert: file with the client's certificate.
        sslkey: file with the client's private key.
        target_session_attrs: which of several hosts fits (``any``, ``primary``, ``standby``...).
        connect_timeout: seconds for each host.
        options: further libpq parameters that the URL named.
        programs: directory with PostgreSQL's client programs, None to look for them.
        warnings: what was left out or deserves a look, in plain words.
    """

    hosts: tuple[tuple[str, int], ...]
    database: str
    user: str
    password: str | None = field(default=None, repr=False)
    sslmode: str = "prefer"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    target_session_attrs: str = "any"
    connect_timeout: int = CONNECT_TIMEOUT_S
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    programs: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def tls_required(self) -> bool:
        """Whether a connection without TLS is refused, so that a libpq without TLS cannot be used."""
        return self.sslmode in _TLS_REQUIRED

    def for_database(self, name: str) -> ConnectionSettings:
        """The same server and role, another database."""
        return replace(self, database=name)

    def redacted(self) -> str:
        """A text for messages: who, where, which database; never the password or the options."""
        places = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        return f"postgresql://{self.user}@{places}/{self.database}"

    def conninfo(self) -> dict[str, str]:
        """Give libpq's connection parameters, password included: for a session of our own, never for an argument list."""
        values = {
            "host": ",".join(host for host, _ in self.hosts),
            "port": ",".join(str(port) for _, port in self.hosts),
            "dbname": self.database,
            "user": self.user,
            "password": self.password,
            "sslmode": self.sslmode,
            "sslrootcert": self.sslrootcert,
            "sslcert": self.sslcert,
            "sslkey": self.sslkey,
            "target_session_attrs": self.target_session_attrs,
            "connect_timeout": str(self.connect_timeout),
            "application_name": APPLICATION_NAME,
        }
        return {**self.options, **{name: value for name, value in values.items() if value is not None}}


def resolve(
    *,
    host: str | None = None,
    hosts: Sequence[str] = (),
    url: str | None = None,
    port: int | None = None,
    database: str | None = None,
    user: str | None = None,
    password: str | None = None,
    sslmode: str | None = None,
    sslrootcert: str | None = None,
    sslcert: str | None = None,
    sslkey: str | None = None,
    programs: str | None = None,
) -> ConnectionSettings:
    """Combine the fields of a configuration's connection into settings; None means "not given".

    Fields win over what the URL says, as they do in Console. ``hosts`` are ``host`` or ``host:port``; ``port`` is for those
    without one.

    Raises:
        ConfigError: something is missing or impossible; every problem is listed.
    """
    parts = parse_url(url) if url else UrlParts()
    problems = list(parts.problems)
    places = _places([host] if host else list(hosts), port, problems) or _url_places(parts, port)
    settings = ConnectionSettings(
        hosts=places,
        database=database or parts.database or "",
        user=user or parts.user or "",
        password=password if password is not None else parts.password,
        sslmode=sslmode or parts.parameters.get("sslmode", "prefer"),
        sslrootcert=sslrootcert or parts.parameters.get("sslrootcert"),
        sslcert=sslcert or parts.parameters.get("sslcert"),
        sslkey=sslkey or parts.parameters.get("sslkey"),
        target_session_attrs=parts.parameters.get("target_session_attrs", "any"),
        connect_timeout=_timeout(parts, problems),
        options={name: value for name, value in parts.parameters.items() if name not in _FIELDS},
        programs=programs,
        warnings=parts.warnings,
    )
    problems += _problems(settings)
    if problems:
        raise ConfigError(f"the connection is impossible: {'; '.join(problems)}", problems=tuple(problems))
    return settings


@contextmanager
def credentials(settings: ConnectionSettings) -> Iterator[dict[str, str]]:
    """Give an environment for PostgreSQL's programs; the password lies in a private file until the block ends.

    The environment is minimal: of the caller's own only ``PATH``, ``HOME`` and ``TZ`` survive, no ``PG*`` variable. The files
    belong to this user: a program started as another user cannot read them. On Linux they exist in memory only, reached through
    this process's descriptors, so that not even a run that is killed leaves a password on disk.
    """
    with ExitStack() as files:
        yield _environment(
            settings, lambda name, text: files.enter_context(private_file(name, text.encode()))
        )


_FIELDS = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "target_session_attrs", "connect_timeout"}
)


def _places(names: list[str], port: int | None, problems: list[str]) -> tuple[tuple[str, int], ...]:
    places = []
    for name in names:
        host, own_port = _split_port(name)
        if own_port is not None and not (own_port.isdigit() and 0 < int(own_port) < 65536):  # noqa: PLR2004 - TCP's range
            problems.append(f'the port of host "{host}" is not a number between 1 and 65535')
        else:
            places.append((host, int(own_port) if own_port else port or DEFAULT_PORT))
    return tuple(places)


def _split_port(name: str) -> tuple[str, str | None]:
    if name.startswith("["):
        address, _, rest = name[1:].partition("]")
        return address, rest.removeprefix(":") or None
    if name.count(":") != 1:  # no port, or a bare IPv6 address
        return name, None
    host, _, port = name.partition(":")
    return host, port


def _url_places(parts: UrlParts, port: int | None) -> tuple[tuple[str, int], ...]:
    return tuple((host, port or own_port or DEFAULT_PORT) for host, own_port in parts.hosts)


def _timeout(parts: UrlParts, problems: list[str]) -> int:
    text = parts.parameters.get("connect_timeout")
    if text is None:
        return CONNECT_TIMEOUT_S
    if not text.isdigit():
        problems.append("connect_timeout in the URL is not a number of seconds")
        return CONNECT_TIMEOUT_S
    # To libpq zero means "for ever": a backup that hangs is a backup that nobody misses.
    return int(text) or CONNECT_TIMEOUT_S


def _problems(settings: ConnectionSettings) -> Iterator[str]:
    if not settings.hosts:
        yield "no host: give host, hosts or url"
    if not settings.database:
        yield "no database"
    if not settings.user:
        yield "no user"
    if settings.sslmode not in SSL_MODES:
        yield f'sslmode "{settings.sslmode}" is not one of {", ".join(SSL_MODES)}'
    if settings.password is not None and any(character in settings.password for character in "\n\r\0"):
        yield "the password holds a line break or a zero byte, which a password file cannot carry"
    if any("\n" in value for value in settings.options.values()):
        yield "a parameter of the URL holds a line break"


def _environment(settings: ConnectionSettings, keep: Callable[[str, str], str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TZ") if name in os.environ}
    values = {
        "PGHOST": ",".join(host for host, _ in settings.hosts),
        "PGPORT": ",".join(str(port) for _, port in settings.hosts),
        "PGDATABASE": settings.database,
        "PGUSER": settings.user,
        "PGSSLMODE": settings.sslmode,
        "PGSSLROOTCERT": settings.sslrootcert,
        "PGSSLCERT": settings.sslcert,
        "PGSSLKEY": settings.sslkey,
        "PGTARGETSESSIONATTRS": settings.target_session_attrs,
        "PGCONNECT_TIMEOUT": str(settings.connect_timeout),
        "PGAPPNAME": APPLICATION_NAME,
    }
    values.update(
        {_ENVIRONMENT_OF_OPTION[k]: v for k, v in settings.options.items() if k in _ENVIRONMENT_OF_OPTION}
    )
    if settings.password is not None:
        values["PGPASSFILE"] = keep("pgpass", f"*:*:*:*:{_escape(settings.password)}\n")
    others = {k: v for k, v in settings.options.items() if k not in _ENVIRONMENT_OF_OPTION}
    if others:
        lines = "".join(f"{name}={value}\n" for name, value in others.items())
        values["PGSERVICEFILE"] = keep("service", f"[{_SERVICE}]\n{lines}")
        values["PGSERVICE"] = _SERVICE
    return {
        **kept,
        "LANG": "C",
        "LC_ALL": "C",
        **{name: value for name, value in values.items() if value is not None},
    }


def _escape(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")


@contextmanager
def private_file(name: str, content: bytes) -> Iterator[str]:
    """A file of mode 0600 that is gone when the block ends; its path, for programs of this user.

    In memory where the system has that (memfd_create(2)): then nothing is left of it by a run that is killed, either.
    """
    if not hasattr(os, "memfd_create"):
        directory = tempfile.mkdtemp(prefix="drctl-")  # mkdtemp makes it 0700
        try:
            yield _write(
                os.open(Path(directory) / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600),
                content,
                Path(directory) / name,
            )
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)  # libpq ignores a password file that others may read
        yield _write(os.dup(descriptor), content, Path(f"/proc/{os.getpid()}/fd/{descriptor}"))
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes, path: Path) -> str:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return str(path)
