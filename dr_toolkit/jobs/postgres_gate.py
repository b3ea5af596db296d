"""What the gate looks at on a PostgreSQL server, for dumps and base backups alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from dr_toolkit.config import ComponentConfig, Config, PostgresBaseConfig, PostgresDumpConfig
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.gate import Check, Question, amount
from dr_toolkit.postgres import server, swap_plan, upgrade_facts
from dr_toolkit.postgres.upgrade_facts import UpgradeFacts

LONG_S = 600.0
"""A transaction that is open for longer holds migrations up."""
LAG_BYTES = 64 << 20
DELAY_S = 300.0
_LOCK_WAIT_S = 2.0
_MARGIN = 1.2
"""A restore needs the database's size, and WAL."""


def facts(config: Config, name: str, component: ComponentConfig, question: Question) -> list[Check]:
    """Transactions, replication, migrations and room.

    Raises:
        SourceError, SourceUnreachable: the server cannot be asked.
    """
    del question
    wanted = (
        component
        if isinstance(component, PostgresBaseConfig)
        else opening.expect(component, PostgresDumpConfig)
    )
    settings = opening.source_settings(wanted, config)
    with closing(server.connect(settings)) as session:
        server.set_timeouts(session, lock_s=_LOCK_WAIT_S)
        found = upgrade_facts.look(session, long_s=LONG_S, lag_bytes=LAG_BYTES, delay_s=DELAY_S)
        free = swap_plan.free_bytes(session, settings, settings.database)
    return list(judge(name, found, free))


def judge(name: str, found: UpgradeFacts, free: int | None) -> Iterator[Check]:
    """Pure.

    Args:
        name: of the component.
        found: on its server.
        free: bytes on the server's disk; None when unknown.
    """
    if not found.sees_all:
        hint = "GRANT pg_read_all_stats TO the backup's role, or --accept it"
        for check in ("transactions", "replication"):
            yield Check(check, name, "unknown", "the role does not see other roles' sessions", hint)
    else:
        yield _listed("transactions", name, found.long, f"none is open for longer than {LONG_S / 60:.0f} min")
        yield _listed("replication", name, found.behind, "no standby is behind")
    yield _migrations(name, found)
    yield _space(name, found, free)


def _listed(check: str, name: str, items: tuple[str, ...], fine: str) -> Check:
    if items:
        return Check(check, name, "failed", "; ".join(items), "wait for it, or end it")
    return Check(check, name, "ok", fine)


def _migrations(name: str, found: UpgradeFacts) -> Check:
    if found.failed:
        hint = "repair the history before the next version starts its own migrations"
        return Check(
            "migrations", name, "failed", f"the last migration failed: {'; '.join(found.failed)}", hint
        )
    if found.migrating:
        pids = ", ".join(map(str, found.migrating))
        return Check("migrations", name, "failed", f"a migration is running (pid {pids})", "wait for its end")
    if found.hidden:
        return Check("migrations", name, "unknown", f"the role may not read {', '.join(found.hidden)}")
    return Check("migrations", name, "ok", "; ".join(found.newest) or "there is no migration history")


def _space(name: str, found: UpgradeFacts, free: int | None) -> Check:
    need = int(found.database_bytes * _MARGIN)
    if free is None:
        return Check(
            "space",
            name,
            "unknown",
            f"the server's disk cannot be seen from here; a restore beside the live database needs {amount(need)} there",
            "look at the server's disk, then --accept space",
        )
    if free < need:
        return Check(
            "space",
            name,
            "failed",
            f"a restore needs {amount(need)} and {amount(free)} are free",
            "make room",
        )
    return Check("space", name, "ok", f"a restore needs {amount(need)} and {amount(free)} are free")
