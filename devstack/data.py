"""Content for databases: one like Console's, and one with everything unusual; and the roles that drctl works with."""

from __future__ import annotations

import re
from pathlib import Path

from devstack import sql
from devstack.postgres import PostgresServer

HERE = Path(__file__).parent
BACKUP_ROLE = "drctl_backup"
RESTORE_ROLE = "drctl_restore"
ODD_NAMES = ("Odd \"näme\", with a 'quote'", "日本 & UPPER/lower%")
"""Of the databases of an unusual cluster."""
EMPTY_NAME = "Empty one"
_PART = re.compile(r"^-- (from|before) (\d+)\n(.*?)^-- end\n", re.MULTILINE | re.DOTALL)
_FIRST_READ_ALL_DATA = 14


def fill_console_like(dsn: str, *, scale: float = 1.0, seed: int = 1) -> None:
    """Make a database like Console's: several schemas, Flyway's history, a large audit log, large objects.

    Args:
        dsn: an empty database, as superuser.
        scale: 1.0 is about 60 MB; the rows grow with it.
        seed: the same seed and scale give the same rows.
    """
    settings = (("devstack.scale", str(scale)), ("devstack.seed", str(seed)))
    with sql.connect(dsn, autocommit=False) as connection:
        for name, value in settings:
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
        connection.execute(sql.trusted((HERE / "console_like.sql").read_text()))
    sql.execute(dsn, "ANALYZE")


def unusual_database(dsn: str) -> None:
    """Fill a database with odd names, values, types and objects.

    Args:
        dsn: an empty database, as superuser.
    """
    text = (HERE / "unusual.sql").read_text()
    with sql.connect(dsn, autocommit=False) as connection:
        connection.execute(sql.trusted(for_version(text, connection.info.server_version // 10_000)))


def for_version(text: str, version: int) -> str:
    """Leave out what a major version does not know.

    Args:
        text: SQL with parts between ``-- from N`` or ``-- before N`` and ``-- end``.
        version: the major version.

    Returns:
        SQL for that version.
    """
    return _PART.sub(
        lambda found: found[3] if (version >= int(found[2])) == (found[1] == "from") else "", text
    )


def unusual_cluster(server: PostgresServer) -> tuple[str, ...]:
    """Fill a server: two databases with odd names and everything unusual, an empty one, and a role with a password.

    Args:
        server: it runs, and nobody else uses it.

    Returns:
        The names of the databases, the empty one last.
    """
    sql.execute(
        server.dsn(),
        "CREATE ROLE \"With a Password\" LOGIN PASSWORD 'p''ass \"wörd\"' CONNECTION LIMIT 7 VALID UNTIL '2031-01-01'",
        "COMMENT ON ROLE \"With a Password\" IS 'it''s a role'",
        "ALTER ROLE \"With a Password\" SET work_mem = '8MB'",
    )
    for name in (*ODD_NAMES, EMPTY_NAME):
        server.create_database(name)
    for name in ODD_NAMES:
        unusual_database(server.dsn(name))
    sql.execute(
        server.dsn(),
        'GRANT "Odd ""Owner"" /ö" TO "With a Password"',
        f'ALTER ROLE "With a Password" IN DATABASE {sql.quoted(ODD_NAMES[0])} SET search_path = "My Schema"',
        f'GRANT CONNECT, TEMPORARY ON DATABASE {sql.quoted(EMPTY_NAME)} TO "With a Password"',
        f"ALTER DATABASE {sql.quoted(EMPTY_NAME)} CONNECTION LIMIT 3",
    )
    return (*ODD_NAMES, EMPTY_NAME)


def append_events(dsn: str, fraction: float, *, seed: int = 2) -> int:
    """Append rows to the audit log of a database like Console's.

    Args:
        dsn: where.
        fraction: how many, as a part of those that are there.
        seed: makes other rows than before.

    Returns:
        How many rows were added.
    """
    return _change(
        dsn,
        """
        INSERT INTO audit.events (at, actor, action, resource, address, payload)
        SELECT at + interval '365 days', md5(%(seed)s || id)::uuid, action, resource, address,
               payload || jsonb_build_object('request', md5(%(seed)s || id) || md5(id || %(seed)s), 'trace', md5(%(seed)s || 't' || id))
        FROM (SELECT * FROM audit.events ORDER BY id
              LIMIT (SELECT ceil(count(*) * %(fraction)s::numeric) FROM audit.events)) AS chosen
        """,
        fraction,
        seed,
    )


def update_events(dsn: str, fraction: float, *, seed: int = 3) -> int:
    """Change rows all over the audit log of a database like Console's.

    Args:
        dsn: where.
        fraction: about how many, as a part of those that are there.
        seed: chooses other rows.

    Returns:
        How many rows were changed.
    """
    return _change(
        dsn,
        """
        UPDATE audit.events SET payload = payload || jsonb_build_object('note', 'changed again ' || %(seed)s)
        WHERE abs(hashint8extended(id, %(seed)s::bigint) %% 1000000) < %(fraction)s::numeric * 1000000
        """,
        fraction,
        seed,
    )


def backup_role(dsn: str, password: str, *, name: str = BACKUP_ROLE, bypass_rls: bool = False) -> None:
    """Make the role that takes backups, or give it this password: it reads everything and changes nothing.

    ``pg_read_all_data`` does not reach large objects, so those of this database are granted one by one.

    Args:
        dsn: the database to be backed up, as superuser.
        password: its password.
        name: its name.
        bypass_rls: needed where a table has row security.
    """
    _make_role(dsn, name, password, "BYPASSRLS" if bypass_rls else "NOBYPASSRLS")
    sql.execute(
        dsn,
        *_reading(dsn, name),
        f"""
        DO $$
        DECLARE object oid;
        BEGIN
            FOR object IN SELECT oid FROM pg_largeobject_metadata LOOP
                EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO %I', object, {sql.literal(name)});
            END LOOP;
        END
        $$
        """,
    )


def restore_role(dsn: str, password: str, *, name: str = RESTORE_ROLE, superuser: bool = True) -> None:
    """Make the role that restores, or give it this password.

    Args:
        dsn: the server, as superuser.
        password: its password.
        name: its name.
        superuser: for now the default, because giving objects to their owners, event triggers and publications need
            it; without, the role may create databases and roles only.
    """
    _make_role(dsn, name, password, "SUPERUSER" if superuser else "NOSUPERUSER CREATEDB CREATEROLE")


def _reading(dsn: str, name: str) -> list[str]:
    """Grants that let a role read all of a database; before 14 there is no role for that."""
    with sql.connect(dsn) as connection:
        version = connection.info.server_version // 10_000
    if version >= _FIRST_READ_ALL_DATA:
        return [f"GRANT pg_read_all_data TO {sql.quoted(name)}"]
    schemas = sql.rows(
        dsn, "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    )
    return [
        f"GRANT {what} {sql.quoted(str(schema))} TO {sql.quoted(name)}"
        for (schema,) in schemas
        for what in (
            "USAGE ON SCHEMA",
            "SELECT ON ALL TABLES IN SCHEMA",
            "SELECT ON ALL SEQUENCES IN SCHEMA",
        )
    ]


def _make_role(dsn: str, name: str, password: str, attributes: str) -> None:
    # Roles belong to the whole server, so another database's fixture may have made it.
    known = sql.rows(dsn, "SELECT 1 FROM pg_roles WHERE rolname = %s", name)
    verb = "ALTER" if known else "CREATE"
    sql.execute(dsn, f"{verb} ROLE {sql.quoted(name)} LOGIN {attributes} PASSWORD {sql.literal(password)}")


def _change(dsn: str, statement: str, fraction: float, seed: int) -> int:
    with sql.connect(dsn) as connection:
        values = {"seed": str(seed), "fraction": str(fraction)}
        return connection.execute(sql.trusted(statement), values).rowcount
