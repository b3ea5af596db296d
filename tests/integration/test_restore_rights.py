"""A restore needs no superuser: the rights in docs/permissions.md are enough, and the swap keeps the owner."""

from devstack import sql
from devstack.postgres import PostgresServer
from dr_toolkit import clock
from dr_toolkit.postgres import restore, restore_plan, restore_verify, swap, swap_plan, tools
from dr_toolkit.postgres.connection import resolve
from tests.fakes import MemorySink, MemorySource
from tests.restoring import dump_database


def test_a_role_that_is_no_superuser_restores_and_swaps(postgres: PostgresServer) -> None:
    """CREATEDB and membership in the owner suffice, also for objects of the application in ``public``."""
    for name in ("rights_app", "rights_restore"):
        sql.execute(postgres.dsn(), f"CREATE ROLE {name} LOGIN PASSWORD 'rights'")
    sql.execute(postgres.dsn(), "ALTER ROLE rights_restore CREATEDB")
    sql.execute(postgres.dsn(), "GRANT rights_app TO rights_restore")
    sql.execute(postgres.dsn(), "GRANT pg_read_all_stats, pg_signal_backend TO rights_restore")
    sql.execute(postgres.dsn(), "CREATE DATABASE rights OWNER rights_app")
    app = postgres.dsn("rights", user="rights_app", password="rights")
    sql.execute(app, "CREATE TABLE public.kept AS SELECT n FROM generate_series(1, 100) n")
    admin = resolve(
        host=postgres.host, port=postgres.port, database="rights", user="postgres", password=postgres.password
    )
    sink = MemorySink()
    programs = tools.choose(18)
    dump_database(admin, sink, programs)
    source = MemorySource(sink)
    sql.execute(app, "DROP TABLE public.kept")
    settings = resolve(
        host=postgres.host, port=postgres.port, database="rights", user="rights_restore", password="rights"
    )
    toc = restore_plan.toc_of(source)
    plan = swap_plan.plan(settings, toc, snapshot="20261123T000000Z-0", now=clock.now())
    with swap.beside(settings, plan) as new:
        restore.restore_into(source, new.settings, programs)
        assert not restore_verify.compare_restored(source, toc, new.settings, programs)
        new.swap(terminate=True)
    assert sql.rows(app, "SELECT count(*) FROM public.kept") == [(100,)]
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'rights'"
    assert sql.rows(postgres.dsn(), owner) == [("rights_app",)]
