"""Which database a Console uses, by every form that its documentation has for the setting.

Source: Conduktor's documentation, "Environment variables" of Console: ``database.url``, ``database.hosts[]``, the deprecated
``database.host`` and ``.port``, ``.name``, ``.username``, ``.password``; where a URL and single fields are both given, the single fields win.
"""

from __future__ import annotations

from dataclasses import dataclass

from dr_toolkit.cluster.environment import Origin, Value
from dr_toolkit.cluster.properties import Properties
from dr_toolkit.jobs.proposal import Credential, Field, Proposal
from dr_toolkit.postgres.connection_url import UrlParts, parse_url

_PORT = 5432


@dataclass(frozen=True, slots=True)
class Authority:
    """Where the certificate lies that a database's server shows, if that was found: a Secret, and who uses it."""

    namespace: str
    secret: str
    workload: str


@dataclass(frozen=True, slots=True)
class Place:
    """A database of Console: where it is and who logs in, as far as it is known."""

    hosts: tuple[tuple[str, int | None], ...]
    port: int | None
    database: Value | None
    user: Value | None
    password: Value | None
    url: Value | None
    parts: UrlParts
    said_by_url: frozenset[str] = frozenset()
    """Which of ``database`` and ``user`` only the URL says."""

    @property
    def first_host(self) -> str | None:
        """The first server's name."""
        return self.hosts[0][0] if self.hosts else None


def place_of(properties: Properties, prefix: str) -> Place | None:
    """Read the settings below ``prefix`` (``database``, ``kafkasql.database``); None where there are none."""
    if not properties.has(prefix):
        return None
    url = properties.get(f"{prefix}.url")
    parts = parse_url(url.text.strip()) if url and url.text else UrlParts()
    listed = tuple(
        (host, _port(properties.text(f"{prefix}.hosts.{index}.port")))
        for index in range(properties.count(f"{prefix}.hosts"))
        if (host := properties.text(f"{prefix}.hosts.{index}.host"))
    )
    old = properties.text(f"{prefix}.host")
    hosts = (
        listed
        or (((old, None),) if old else ())
        or (parts.hosts if url and url.text and not parts.problems else ())
    )
    own = {"database": properties.get(f"{prefix}.name"), "user": properties.get(f"{prefix}.username")}
    return Place(
        hosts=hosts,
        port=_port(properties.text(f"{prefix}.port")),
        database=own["database"] or _of_url(url, parts.database),
        user=own["user"] or _of_url(url, parts.user),
        password=properties.get(f"{prefix}.password"),
        url=url,
        parts=parts,
        said_by_url=frozenset(field for field, value in own.items() if value is None),
    )


def propose(
    name: str, place: Place, *, about: tuple[str, ...], authority: Authority | None, schedule: str
) -> Proposal:
    """Make a ``postgres-dump`` component of a place.

    Args:
        name: of the component.
        place: the database.
        about: sentences above it.
        authority: where the server's certificate lies.
        schedule: a cron expression.
    """
    missing: list[str] = []
    credentials: list[Credential] = []
    fields = _where(name, place, credentials, missing)
    fields += _who(name, place, credentials, missing)
    fields += _tls(name, place, authority, missing)
    missing += place.parts.problems
    return Proposal(
        name,
        about,
        (
            Field("kind", "postgres-dump"),
            Field("connection", tuple(fields)),
            Field("schedule", schedule),
            Field("objectives", (Field("rpo", "2h"), Field("rto", "1h")), "choose: nobody else can"),
            Field(
                "retention", (Field("last", 3), Field("daily", 7), Field("weekly", 5), Field("monthly", 12))
            ),
        ),
        tuple(credentials),
        tuple(missing),
    )


def variable(name: str, what: str) -> str:
    """The environment variable that a component's secret is referred to by: ``DR_CONSOLE_DB_PASSWORD``."""
    return f"DR_{name.upper().replace('-', '_')}_{what}"


def credential(name: str, what: str, origin: Origin) -> Credential:
    """A secret with its origin."""
    reference = (
        {"namespace": origin.namespace, "name": origin.name, "key": origin.key}
        if origin.kind == "secret"
        else None
    )
    return Credential(variable(name, what), str(origin), reference)


def _where(name: str, place: Place, credentials: list[Credential], missing: list[str]) -> list[Field]:
    if _by_url(place):
        assert place.url is not None  # noqa: S101  # for the type checker
        credentials.append(credential(name, "URL", place.url.origin))
        comment = (
            f"{place.url.origin}; it holds the password" if place.parts.password else str(place.url.origin)
        )
        return [Field("url", f"env:{variable(name, 'URL')}", comment)]
    if not place.hosts:
        missing.append("the server's host was not found")
        return [Field("host", "not-found", "NOT FOUND: put the server's name here")]
    port = place.port or _PORT
    if len(place.hosts) > 1:
        listed = tuple(_with_port(host, own or port) for host, own in place.hosts)
        return [Field("hosts", listed, "several servers, tried in order")]
    host, own = place.hosts[0]
    return [Field("host", host), Field("port", own or port)]


def _by_url(place: Place) -> bool:
    """Whether the URL itself must be referred to: it holds the password, or cannot be read; single fields beside it win."""
    if place.url is None:
        return False
    fields_name_hosts = bool(place.hosts) and place.hosts != place.parts.hosts
    if fields_name_hosts:  # they win over the URL's
        return False
    return place.url.text is None or (place.parts.password is not None and place.password is None)


def _who(name: str, place: Place, credentials: list[Credential], missing: list[str]) -> list[Field]:
    by_url = _by_url(place)
    fields: list[Field] = []
    for field, value, what in (("database", place.database, "name"), ("user", place.user, "user")):
        if by_url and field in place.said_by_url:
            continue
        if value is not None and value.text:
            comment = f"{value.origin}" if value.origin.kind != "literal" else ""
            role = "; better a role of its own: docs/permissions.md" if field == "user" else ""
            fields.append(Field(field, value.text, (comment + role).removeprefix("; ")))
        else:
            where = f": it lies in {value.origin}, which could not be read" if value is not None else ""
            missing.append(f"the database's {what} was not found{where}")
            fields.append(Field(field, "not-found", f"NOT FOUND{where}"))
    if place.password is not None:
        credentials.append(credential(name, "PASSWORD", place.password.origin))
        fields.append(Field("password", f"env:{variable(name, 'PASSWORD')}", str(place.password.origin)))
    elif not by_url:
        missing.append("no password was found")
    return fields


def _tls(name: str, place: Place, authority: Authority | None, missing: list[str]) -> list[Field]:
    mode = place.parts.parameters.get("sslmode")
    if authority is not None:
        path = f"/etc/drctl/{name}-ca.crt"
        return [
            Field("sslmode", "verify-full"),
            Field(
                "sslrootcert",
                path,
                f"ca.crt of Secret {authority.namespace}/{authority.secret} ({authority.workload})",
            ),
        ]
    if mode is not None:
        return [Field("sslmode", mode, "as Console's url says")]
    missing.append(
        "whether the server has TLS, and under which authority, was not found; Console itself uses sslmode prefer"
    )
    return [Field("sslmode", "prefer", "as Console does; verify-full with sslrootcert is what protects")]


def _of_url(url: Value | None, text: str | None) -> Value | None:
    return Value(text, url.origin) if url is not None and text else None


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and 0 < int(text) < 65536 else None  # noqa: PLR2004 - TCP's range


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
