"""Connection URLs as Console accepts them: ``[jdbc:]postgresql://[user[:pw]@][host[:port],...][/database][?name=value&...]``.

libpq does not know ``jdbc:`` nor the JDBC driver's parameters. They are translated where libpq has the same thing, dropped in
silence where they only tune the Java side, and dropped with a warning otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_plus

_LIBPQ = frozenset(
    {
        "channel_binding",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "krbsrvname",
        "load_balance_hosts",
        "options",
        "require_auth",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslcrldir",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "sslsni",
        "connect_timeout",
        "target_session_attrs",
        "tcp_user_timeout",
    }
)

_JDBC_TO_LIBPQ = {
    "channelBinding": "channel_binding",
    "connectTimeout": "connect_timeout",
    "gssEncMode": "gssencmode",
    "kerberosServerName": "krbsrvname",
    "loginTimeout": "connect_timeout",
    "requireAuth": "require_auth",
    "sslNegotiation": "sslnegotiation",
}

_TARGETS = {
    "any": "any",
    "primary": "primary",
    "master": "primary",
    "secondary": "standby",
    "slave": "standby",
    "preferSecondary": "prefer-standby",
    "preferSlave": "prefer-standby",
}

_JAVA_ONLY = frozenset(
    {
        "ApplicationName",
        "adaptiveFetch",
        "application_name",
        "assumeMinServerVersion",
        "autosave",
        "binaryTransfer",
        "cancelSignalTimeout",
        "cleanupSavepoints",
        "currentSchema",
        "defaultRowFetchSize",
        "disableColumnSanitiser",
        "fallback_application_name",
        "hostRecheckSeconds",
        "loadBalanceHosts",
        "logUnclosedConnections",
        "loggerLevel",
        "preferQueryMode",
        "prepareThreshold",
        "preparedStatementCacheQueries",
        "preparedStatementCacheSizeMiB",
        "readOnly",
        "reWriteBatchedInserts",
        "socketTimeout",
        "stringtype",
        "tcpKeepAlive",
        "tcpNoDelay",
        "unknownLength",
    }
)
"""Parameters that change nothing about which server is reached, or how safely."""


@dataclass(frozen=True, slots=True)
class UrlParts:
    """What a URL says.

    Attributes:
        hosts: host and port (None where not given), in order.
        database: its name, if given.
        user: from the user part or ``?user=``, which wins as it does in the JDBC driver.
        password: likewise.
        parameters: libpq's names and values.
        warnings: what was left out.
        problems: what makes the URL unusable.
    """

    hosts: tuple[tuple[str, int | None], ...] = ()
    database: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def parse_url(url: str) -> UrlParts:
    """Take a connection URL apart. Never raises: ``problems`` names what is wrong, without quoting the URL."""
    jdbc = url.startswith("jdbc:")
    scheme, separator, rest = url.removeprefix("jdbc:").partition(":")
    if not separator or scheme not in ("postgresql", "postgres"):
        return UrlParts(problems=("the url does not start with postgresql:// or jdbc:postgresql://",))
    location, _, query = rest.partition("?")
    authority, path = _split_location(location)
    userinfo, at, places = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    problems: list[str] = []
    parameters, warnings = _parameters(query, jdbc=jdbc)
    hosts = _hosts(places if at else authority, problems)
    if not hosts and "host" in parameters:
        hosts = _hosts_of_parameters(parameters, problems)
    for name in ("host", "port"):
        parameters.pop(name, None)
    database = parameters.pop("dbname", None) or unquote(path) or None
    secret = parameters.pop("password", None) or unquote(password) or None
    return UrlParts(
        hosts=hosts or (("localhost", None),),
        database=database,
        user=parameters.pop("user", None) or unquote(user) or None,
        password=secret,
        parameters=parameters,
        warnings=tuple(warnings),
        problems=tuple(problems),
    )


def _split_location(location: str) -> tuple[str, str]:
    """Authority and path; the JDBC driver also takes ``jdbc:postgresql:database`` and ``jdbc:postgresql:/``."""
    if not location.startswith("//"):
        return "", location.removeprefix("/")
    authority, _, path = location[2:].partition("/")
    return authority, path


def _hosts(places: str, problems: list[str]) -> tuple[tuple[str, int | None], ...]:
    hosts: list[tuple[str, int | None]] = []
    for place in places.split(",") if places else []:
        if place.startswith("["):
            name, _, port = place[1:].partition("]")
            port = port.removeprefix(":")
        else:
            name, _, port = place.partition(":")
        hosts.append((unquote(name) or "localhost", _port(port, problems)))
    return tuple(hosts)


def _hosts_of_parameters(
    parameters: Mapping[str, str], problems: list[str]
) -> tuple[tuple[str, int | None], ...]:
    names = parameters["host"].split(",")
    ports = parameters.get("port", "").split(",")
    ports = ports * len(names) if len(ports) == 1 else ports
    if len(ports) != len(names):
        problems.append("the url names a different number of hosts and ports")
        return ()
    return tuple((name, _port(port, problems)) for name, port in zip(names, ports, strict=True))


def _port(text: str, problems: list[str]) -> int | None:
    if not text:
        return None
    if not text.isdigit() or not 0 < int(text) < 65536:  # noqa: PLR2004 - TCP's range
        problems.append("a port in the url is not a number between 1 and 65535")
        return None
    return int(text)


def _parameters(query: str, *, jdbc: bool) -> tuple[dict[str, str], list[str]]:
    # The JDBC driver reads a plus sign as a space; libpq takes it as it is.
    decode = unquote_plus if jdbc else unquote
    parameters: dict[str, str] = {}
    warnings: list[str] = []
    for pair in query.split("&") if query else []:
        name, _, value = pair.partition("=")
        _translate(decode(name), decode(value), parameters, warnings)
    insecure = parameters.pop("ssl-not-validating", None)
    ssl = parameters.pop("ssl", None)
    if ssl is not None and ssl != "false":
        # The driver's ssl=true checks certificate and name, except with its factory that says it does not.
        parameters.setdefault("sslmode", "require" if insecure else "verify-full")
    return parameters, warnings


def _translate(name: str, value: str, parameters: dict[str, str], warnings: list[str]) -> None:
    if name in _LIBPQ or name in ("user", "password", "host", "port", "dbname", "ssl"):
        parameters[name] = value
    elif name in _JDBC_TO_LIBPQ:
        parameters[_JDBC_TO_LIBPQ[name]] = value
    elif name == "targetServerType":
        if value not in _TARGETS:
            warnings.append(f'targetServerType "{value}" has no equal here: any host is taken')
        parameters["target_session_attrs"] = _TARGETS.get(value, "any")
    elif name == "sslfactory" and value.endswith(".NonValidatingFactory"):
        parameters["ssl-not-validating"] = value
    elif name not in _JAVA_ONLY:
        warnings.append(f'the url\'s parameter "{name}" is not known and was left out')
    if name == "sslkey" and value.lower().endswith((".p12", ".pfx", ".pk12")):
        warnings.append(
            f'sslkey "{value}" is PKCS #12, which libpq cannot read: give PEM files in sslcert and sslkey'
        )
