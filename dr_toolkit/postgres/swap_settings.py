"""What belongs to a database as a whole and is in no dump of its content: how it was created, its settings, privileges, owner.

Read from the live database's catalog, given as statements for the new one. Where there is no live database any more, the
snapshot's table of contents has most of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from dr_toolkit.postgres import server
from dr_toolkit.postgres.archive_toc import Toc

_LISTS = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)
"""Settings whose value is a list of names: the catalog keeps the list's text, and quoted as one name it would mean another thing."""

_DATABASE = "SELECT to_jsonb(d) FROM pg_catalog.pg_database d WHERE datname = %s"
_DETAILS = """
SELECT pg_encoding_to_char(d.encoding), r.rolname, t.spcname, shobj_description(d.oid, 'pg_database')
FROM pg_catalog.pg_database d
JOIN pg_catalog.pg_roles r ON r.oid = d.datdba JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace
WHERE d.datname = %s
"""
_SETTINGS = """
SELECT r.rolname, unnest(s.setconfig)
FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
WHERE d.datname = %s AND (s.setrole = 0 OR r.rolname IS NOT NULL)
"""
_PRIVILEGES = """
SELECT a.privilege_type, r.rolname, a.is_grantable
FROM pg_catalog.pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE d.datname = %s AND (a.grantee = 0 OR r.rolname IS NOT NULL)
"""
_LABELS = """
SELECT l.provider, l.label FROM pg_catalog.pg_shseclabel l JOIN pg_catalog.pg_database d ON d.oid = l.objoid
WHERE l.classoid = 'pg_catalog.pg_database'::regclass AND d.datname = %s
"""

DEFAULT_TABLESPACE = "pg_default"


def create_like(connection: server.Connection, live: str, new: str) -> str:
    """The statement that creates ``new`` with the owner, encoding, locale and tablespace of ``live``.

    The owner from the start, where the role may: since 15 only the database's owner may create in ``public``, and the
    objects of the application are created as their owners.
    """
    facts = _facts(connection, live)
    encoding, owner, tablespace, _ = _details(connection, live)
    provider = {"i": "icu", "b": "builtin"}.get(facts.get("datlocprovider", "c"), "libc")
    # ICU's locale: "daticulocale" in 15 and 16, "datlocale" since 17.
    locale = facts.get("datlocale") or facts.get("daticulocale")
    parts: list[tuple[str, Any]] = [
        ("TEMPLATE = template0", None),
        ("ENCODING = {value}", encoding),
        ("LC_COLLATE = {value}", facts["datcollate"]),
        ("LC_CTYPE = {value}", facts["datctype"]),
    ]
    if "datlocprovider" in facts:
        parts.append((f"LOCALE_PROVIDER = {provider}", None))
    if provider == "icu":
        parts.append(("ICU_LOCALE = {value}", locale))
        if facts.get("daticurules"):
            parts.append(("ICU_RULES = {value}", facts["daticurules"]))
    elif provider == "builtin":
        parts.append(("BUILTIN_LOCALE = {value}", locale))
    if tablespace != DEFAULT_TABLESPACE:  # naming it needs a right that leaving it out does not
        parts.append(("TABLESPACE = {value}", server.identifier(tablespace)))
    if server.query(connection, "SELECT pg_has_role(current_user, %s, 'MEMBER')", (owner,))[0][0]:
        parts.append(("OWNER = {value}", server.identifier(owner)))
    options = [_text(connection, template, value=value) for template, value in parts]
    return f"{_text(connection, 'CREATE DATABASE {name}', name=server.identifier(new))} {' '.join(options)}"


def create_from(connection: server.Connection, toc: Toc, new: str) -> str:
    """The statement that creates ``new`` as the snapshot's source was created."""
    head = _text(connection, "CREATE DATABASE {name} WITH", name=server.identifier(new))
    for entry in toc.entries:
        match = _CREATE.fullmatch(entry.definition) if entry.desc == "DATABASE" else None
        if match:
            return f"{head} {_known_options(match[1], connection.info.server_version)}"
    return f"{head} TEMPLATE = template0"


def _known_options(options: str, server_version: int) -> str:
    """A newer ``pg_dump`` names the provider of a locale for servers that have but one, and no such option."""
    return options if server_version >= _PROVIDERS_SINCE else options.replace(" LOCALE_PROVIDER = libc", "")


_PROVIDERS_SINCE = 150000
_CREATE = re.compile(r'CREATE DATABASE (?:"(?:[^"]|"")+"|\S+) WITH (.*?);\s*', re.DOTALL)


def carried_over(connection: server.Connection, live: str, new: str) -> list[str]:
    """Statements that give ``new`` the owner, privileges, settings, limits, comment and labels of ``live``."""
    facts = _facts(connection, live)
    _, owner, _, comment = _details(connection, live)
    database = server.identifier(new)
    name = server.identifier(owner)
    statements = [
        _text(connection, "ALTER DATABASE {database} OWNER TO {name}", database=database, name=name),
        *_privileges(connection, live, new, owner=owner, given=facts["datacl"] is not None),
        *_settings(connection, live, new),
        _text(
            connection,
            "ALTER DATABASE {database} WITH CONNECTION LIMIT {limit} IS_TEMPLATE {is_template}",
            database=database,
            limit=facts["datconnlimit"],
            is_template=facts["datistemplate"],
        ),
        _text(connection, "COMMENT ON DATABASE {database} IS {comment}", database=database, comment=comment),
    ]
    for provider, label in server.query(connection, _LABELS, (live,)):
        template = "SECURITY LABEL FOR {provider} ON DATABASE {database} IS {label}"
        parts = {"provider": server.identifier(provider), "database": database, "label": label}
        statements.append(_text(connection, template, **parts))
    return statements


def recorded(connection: server.Connection, toc: Toc, name: str, roles: frozenset[str]) -> list[str]:
    """Statements for ``name`` as the snapshot's table of contents has them, when the source had that same name.

    Owners that do not exist any more are left out.
    """
    if toc.database != name:
        return []
    statements = []
    database = server.identifier(name)
    for entry in toc.entries:
        if entry.desc == "DATABASE" and entry.owner in roles:
            owner = server.identifier(entry.owner)
            template = "ALTER DATABASE {database} OWNER TO {owner}"
            statements.append(_text(connection, template, database=database, owner=owner))
        elif entry.desc == "DATABASE PROPERTIES" or (
            entry.namespace is None and entry.section == "none" and entry.tag.startswith("DATABASE ")
        ):
            statements.append(entry.definition)
    return statements


def _facts(connection: server.Connection, name: str) -> dict[str, Any]:
    facts: dict[str, Any] = server.query(connection, _DATABASE, (name,))[0][0]
    return facts


def _details(connection: server.Connection, name: str) -> tuple[str, str, str, str | None]:
    encoding, owner, tablespace, comment = server.query(connection, _DETAILS, (name,))[0]
    return encoding, owner, tablespace, comment


def _privileges(
    connection: server.Connection, live: str, new: str, *, owner: str, given: bool
) -> Iterator[str]:
    """Grants as they are in effect; who granted them is not kept: all come from the owner."""
    if not given:
        return
    database = server.identifier(new)
    template = "REVOKE ALL ON DATABASE {database} FROM PUBLIC, {owner}"
    yield _text(connection, template, database=database, owner=server.identifier(owner))
    for privilege, grantee, grantable in server.query(connection, _PRIVILEGES, (live,)):
        # The kind of privilege is PostgreSQL's own word, from a function of its own.
        template = f"GRANT {privilege} ON DATABASE {{database}} TO {'{grantee}' if grantee else 'PUBLIC'}"
        parts = {"grantee": server.identifier(grantee)} if grantee else {}
        yield _text(
            connection, template + (" WITH GRANT OPTION" if grantable else ""), database=database, **parts
        )


def _settings(connection: server.Connection, live: str, new: str) -> Iterator[str]:
    database = server.identifier(new)
    for role, setting in server.query(connection, _SETTINGS, (live,)):
        name, _, value = setting.partition("=")
        head = "ALTER ROLE {role} IN DATABASE {database}" if role else "ALTER DATABASE {database}"
        parts: dict[str, Any] = {"database": database, "name": server.identifier(*name.split("."))}
        if role:
            parts["role"] = server.identifier(role)
        values = [value] if name not in _LISTS else split_list(value) or [""]
        places = ", ".join(f"{{value{number}}}" for number in range(len(values)))
        parts.update({f"value{number}": item for number, item in enumerate(values)})
        yield _text(connection, f"{head} SET {{name}} TO {places}", **parts)


_ITEM = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^",\s]+))\s*(?:,|$)')


def split_list(value: str) -> list[str]:
    """The names in a setting's list, such as ``"$user", public``."""
    return [
        match[2] if match[2] is not None else match[1].replace('""', '"') for match in _ITEM.finditer(value)
    ]


def _text(connection: server.Connection, pattern: str, /, **parts: Any) -> str:
    return server.statement(pattern, **parts).as_string(connection)
