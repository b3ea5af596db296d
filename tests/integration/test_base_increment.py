"""Increments of PostgreSQL 17 and 18: every snapshot is a full one, whatever happens between two backups."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from devstack import programs, sql
from devstack.postgres import PostgresServer
from dr_toolkit import errors
from dr_toolkit.config import PostgresBaseConfig
from dr_toolkit.jobs import base_backup, base_plan, opening
from dr_toolkit.postgres import base_backup as reading
from dr_toolkit.postgres import base_limits, base_manifest
from dr_toolkit.postgres.base_increment import Shape
from dr_toolkit.postgres.base_overlay import FILES, MarkedFiles, OverlaidFiles, Parent
from dr_toolkit.postgres.base_tar import TarStream
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter
from tests.base_site import COMPONENT, BaseSite, ask, base_of, open_directory
from tests.stock_increment import Stock

DRCTL = Path(sys.executable).with_name("drctl")
SHAPE = Shape(8192, 131072)
newest = pytest.mark.parametrize("source", [18], indirect=True)
"""For what does not depend on the server's version."""
CONTENT = (
    "SELECT count(*), coalesce(sum(id), 0), md5(coalesce(string_agg(body, '|' ORDER BY id, body), '')) FROM "
)
SUMMARIZED = "SELECT (pg_get_wal_summarizer_state()).summarized_lsn >= (pg_control_checkpoint()).redo_lsn"


@pytest.fixture(scope="module", params=[18, 17])
def source(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """A server of this module's own that writes WAL summaries."""
    root = open_directory()
    settings = {"summarize_wal": "on", "autovacuum": "off", "hot_standby": "on"}
    with PostgresServer(root / "pg", version=request.param, settings=settings) as server:
        yield server
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def root() -> Iterator[Path]:
    path = open_directory()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def site(source: PostgresServer, root: Path) -> Iterator[BaseSite]:
    """A repository, and a table ``t`` that goes with the test."""
    sql.execute(
        source.dsn(),
        "CREATE TABLE t (id int PRIMARY KEY, body text)",
        "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 20000) g",
    )
    yield BaseSite(root, source)
    sql.execute(source.dsn(), "DROP TABLE t")


def methods(*taken: Snapshot) -> list[str]:
    return [base_of(each)["method"] for each in taken]


def test_every_snapshot_is_a_full_one(site: BaseSite) -> None:
    """Truncated and rewritten tables, a dropped and a new database, most of a table changed, nothing changed: each snapshot, by the write
    role alone, restores as ``pg_verifybackup`` wants it to what the server said then.
    """
    dsn = site.source.dsn()
    sql.execute(
        dsn,
        "CREATE TABLE u (id int, body text)",
        "INSERT INTO u SELECT g, 'x' FROM generate_series(1, 9000) g",
    )
    site.source.create_database("gone")

    def say() -> list[list[tuple[object, ...]]]:
        return [sql.rows(dsn, CONTENT + name) for name in ("t", "u")] + [
            sql.rows(dsn, "SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY 1")
        ]

    def databases() -> None:
        site.source.drop_database("gone")
        sql.execute(dsn, 'CREATE DATABASE "Näw" STRATEGY file_copy TEMPLATE template0')

    steps: list[Callable[[], None]] = [
        lambda: sql.execute(dsn, "UPDATE t SET body = 'changed' WHERE id % 3000 = 0", "TRUNCATE u"),
        databases,
        lambda: sql.execute(
            dsn, "VACUUM FULL t", "INSERT INTO u SELECT g, 'y' FROM generate_series(1, 5000) g"
        ),
        lambda: sql.execute(
            dsn, "UPDATE t SET body = body || '!'", "DELETE FROM u WHERE id > 100", "VACUUM u"
        ),
        lambda: None,
    ]
    taken, expected = [site.backup()], [say()]
    for step in steps:
        step()
        taken.append(site.backup())
        expected.append(say())
    assert methods(*taken) == ["full", *["increment"] * 5], [base_of(t)["reason"] for t in taken]
    # The look above set hint bits; now nothing at all has changed.
    site.backup()
    assert site.backup().header.bytes_stored < taken[0].header.bytes_stored / 10
    # All of them once; the last ones again on the older version.
    some = slice(0 if site.source.version == 18 else -2, None)
    for each, content in zip(taken[some], expected[some], strict=True):
        with site.running(each) as settings:
            found = [ask(settings, CONTENT + name, "postgres") for name in ("t", "u")]
            names = ask(settings, "SELECT datname::text FROM pg_database WHERE datallowconn ORDER BY 1")
            assert [*found, names] == content
    place = site.restore(taken[-1])
    assert b"INCREMENTAL" not in (place / "backup_label.old").read_bytes()
    site.source.drop_database("Näw")
    sql.execute(dsn, "DROP TABLE u")


@newest
def test_tablespaces_are_refused(site: BaseSite) -> None:
    """Elsewhere or in place: ``pg_basebackup`` writes neither to standard output. It is said before anything starts, with another way."""
    dsn, elsewhere = site.source.dsn(), open_directory()
    shutil.chown(elsewhere, site.source.data.owner())
    with sql.connect(dsn) as session:
        session.execute("SET allow_in_place_tablespaces = on")
        session.execute("CREATE TABLESPACE inside LOCATION ''")
    sql.execute(dsn, f"CREATE TABLESPACE elsewhere LOCATION '{elsewhere}'")
    try:
        [(_component, refused)] = site.outcome().failures
        assert "tablespaces are not supported yet: elsewhere, inside" in refused.message
        assert "postgres-dump" in str(refused.hint)
        assert refused.unaffected == "nothing was started"
    finally:
        sql.execute(dsn, "DROP TABLESPACE elsewhere", "DROP TABLESPACE inside")
        shutil.rmtree(elsewhere, ignore_errors=True)


def test_against_pg_combinebackup(site: BaseSite) -> None:
    """The oracle: the same streams through ours and through PostgreSQL's own program are the same files, byte for byte, where it is right."""
    root, dsn = site.root, site.source.dsn()
    stock = Stock(root, site.source)
    stock.tar(root / "full.tar")
    sql.execute(
        dsn,
        "UPDATE t SET body = 'x' WHERE id % 900 = 0",
        "INSERT INTO t SELECT g, 'new' FROM generate_series(30000, 31000) g",
        "CREATE TABLE fresh AS SELECT * FROM t",
        "VACUUM t",
    )
    with tarfile.open(root / "full.tar") as tar:
        tar.extractall(root / "full", filter="fully_trusted")  # noqa: S202 - our own server's
    (root / "asked").write_bytes(
        base_manifest.for_upload((root / "full" / "backup_manifest").read_bytes(), base_plan._sent_whole)
    )
    stock.tar(root / "increment.tar", root / "asked")
    with tarfile.open(root / "increment.tar") as tar:
        tar.extractall(root / "increment", filter="fully_trusted")  # noqa: S202 - our own server's
    theirs = stock.combine(root / "full", root / "increment", verify=False)
    ours = laid_over(site, root / "full.tar", root / "increment.tar")
    combined = {str(p.relative_to(theirs)): p for p in theirs.rglob("*") if p.is_file()}
    apart = {"backup_manifest", "backup_label"}
    assert ours.keys() - apart == combined.keys() - apart
    assert [p for p in ours.keys() - apart if ours[p] != combined[p].read_bytes()] == []
    increments = list((root / "increment").rglob("INCREMENTAL.*"))
    assert len(increments) > 100
    assert not any(p.name.endswith(("_vm", "_fsm")) for p in increments)
    label = (root / "increment" / "backup_label").read_bytes()
    assert ours["backup_label"] == b"".join(
        x for x in label.splitlines(keepends=True) if not x.startswith(b"INCREMENTAL")
    )
    sql.execute(dsn, "DROP TABLE fresh")


def laid_over(site: BaseSite, full: Path, increment: Path) -> dict[str, bytes]:
    """The files of a snapshot that was made of two streams."""
    component = site.job.components[COMPONENT]
    assert isinstance(component, PostgresBaseConfig)
    settings = opening.source_settings(component, site.job)
    with opening.opened_repository(site.job) as repository:
        manifest = b""
        with (
            SnapshotWriter(repository, COMPONENT, "postgres-base", ordered=False) as writer,
            full.open("rb") as file,
        ):
            marked, stream = MarkedFiles(SHAPE), TarStream(file)
            for member in stream.members():
                if member.path == "backup_manifest":
                    manifest = b"".join(stream.content())
                else:
                    marked.write(member, stream, writer)
            first = writer.commit({})
        sizes, _overlays = base_plan._files_of(repository, first)
        [wal] = base_manifest.wal_ranges(manifest)
        parent = Parent(
            sizes, {}, marked.marks, wal.start, wal.timeline, partial(base_limits.read, settings, SHAPE)
        )
        with (
            SnapshotWriter(repository, COMPONENT, "postgres-base", ordered=False) as writer,
            increment.open("rb") as file,
        ):
            files, stream = OverlaidFiles(SHAPE, parent, writer), TarStream(file)
            for member in stream.members():
                files.write(member, stream, writer)
            second = writer.commit({})
    with opening.opened_repository(site.config) as repository, SnapshotReader(repository, second) as reader:
        return {
            info.path.removeprefix(FILES): b"".join(reader.read(info.path))
            for info in reader.entries(FILES)
            if info.kind == "file"
        }


def test_random_work_comes_back_at_every_time(site: BaseSite) -> None:
    """Seeded: work, backup, work, backup, …; each of them restores to what the server said at its time, indexes agree with heaps."""
    dsn, chance = site.source.dsn(), random.Random(1717)
    work = [
        "INSERT INTO t SELECT {n} * 100000 + g, md5(g::text) FROM generate_series(1, {m}) g",
        "UPDATE t SET body = '{n}' WHERE id % {k} = 0",
        "DELETE FROM t WHERE id % {k} = 1",
        "DELETE FROM t WHERE id > (SELECT percentile_disc(0.7) WITHIN GROUP (ORDER BY id) FROM t)",
        "VACUUM t",
        "CREATE INDEX IF NOT EXISTS t_body ON t (body)",
        "REINDEX TABLE t",
        "CLUSTER t USING t_pkey",
        "COPY t FROM PROGRAM 'seq -f %.0f {n}00001 1 {n}01500 | sed s/$/,copied/' WITH (FORMAT csv)",
        "CREATE TABLE IF NOT EXISTS x{n} AS SELECT * FROM t",
        "DROP TABLE IF EXISTS x{k}",
        "CHECKPOINT",
    ]
    taken, expected = [], []
    for number in range(1, 6):
        for _ in range(chance.randint(2, 5)):
            # A number for each statement, so that ids never collide.
            values = {"n": number * 20 + _, "m": chance.randint(1, 3000), "k": chance.randint(2, 50)}
            sql.execute(dsn, chance.choice(work).format(**values))
        taken.append(site.backup())
        expected.append(sql.rows(dsn, CONTENT + "t"))
    assert methods(*taken) == ["full", *["increment"] * 4]
    for each, content in zip(taken, expected, strict=True):
        with site.running(each) as settings:
            assert ask(settings, CONTENT + "t", "postgres") == content
            ask(
                settings,
                "SELECT bt_index_check('t_pkey', true)",
                "postgres",
                before=["CREATE EXTENSION IF NOT EXISTS amcheck"],
            )
    for (name,) in sql.rows(dsn, "SELECT relname::text FROM pg_class WHERE relname ~ '^x[0-9]+$'"):
        sql.execute(dsn, f"DROP TABLE {name}")


def test_what_an_increment_lacks_makes_a_full_read(site: BaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Summaries that were removed, or switched off, or cannot be read after the server used them; packs and notes that are gone: each
    snapshot is good, and says why it was read whole.
    """
    server, dsn = site.source, site.source.dsn()
    site.backup()
    sql.execute(dsn, "UPDATE t SET body = 'x' WHERE id < 100", "CHECKPOINT")
    # A summarizer that lags would write after the loop what the loop was to remove.
    deadline = time.monotonic() + 60
    while sql.rows(dsn, SUMMARIZED) != [(True,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for summary in (server.data / "pg_wal" / "summaries").iterdir():
        summary.unlink(missing_ok=True)
    assert "WAL summaries are required" in base_of(site.backup())["reason"]
    with monkeypatch.context() as patched:
        patched.setattr(
            base_limits, "_LIMITS", "SELECT 1 / 0 WHERE %s = 1 OR %s::text IS NULL OR %s::text IS NULL"
        )
        refused = site.backup()
    assert "cannot be read" in base_of(refused)["reason"]
    assert methods(site.backup()) == ["increment"]
    server.settings["summarize_wal"] = "off"
    server.restart()
    assert "summarize_wal is off" in base_of(site.backup())["reason"]
    server.settings["summarize_wal"] = "on"
    server.restart()
    # Nothing was summarized while it was off.
    assert methods(site.backup()) == ["full"]
    last = site.backup()
    assert methods(last) == ["increment"]
    (site.root / "repository" / "notes" / last.id / "page-marks").unlink()
    assert "notes cannot be used" in base_of(site.backup())["reason"]
    for pack in (site.root / "repository" / "packs").glob("*/*"):
        pack.unlink()
    damaged = site.backup()
    assert "packs of the parent are gone" in base_of(damaged)["reason"]
    site.restore(damaged)


def test_a_promoted_primary_is_read_whole(site: BaseSite) -> None:
    """Another timeline between two backups: a full read with that reason, then increments again."""
    server, dsn = site.source, site.source.dsn()
    first = site.backup()
    server.stop()
    (server.data / "standby.signal").touch()
    server._give(server.data / "standby.signal")
    server.start()
    assert sql.rows(dsn, "SELECT pg_promote()") == [(True,)]
    sql.execute(dsn, "UPDATE t SET body = 'promoted' WHERE id < 100", "CHECKPOINT")
    second = site.backup()
    now = base_of(second)["timeline"]
    assert now == base_of(first)["timeline"] + 1
    assert base_of(second)["reason"] == f"the timeline changed from {now - 1} to {now}"
    sql.execute(dsn, "UPDATE t SET body = 'later' WHERE id < 100")
    third = site.backup()
    assert methods(third) == ["increment"]
    with site.running(third) as settings:
        assert ask(settings, CONTENT + "t", "postgres") == sql.rows(dsn, CONTENT + "t")


def test_a_number_that_is_used_again(site: BaseSite) -> None:
    """A table was dropped, and another one has its file's number: the increment has the new one's pages and none of the old one's."""
    server, dsn = site.source, site.source.dsn()
    sql.execute(
        dsn,
        "CREATE TABLE before (id int)",
        "INSERT INTO before SELECT generate_series(1, 20000)",
        "CHECKPOINT",
    )
    [(number, path)] = sql.rows(
        dsn, "SELECT pg_relation_filenode('before')::int, pg_relation_filepath('before')"
    )
    site.backup()
    sql.execute(dsn, "DROP TABLE before")
    server.stop()
    server.start("-b")  # as pg_upgrade starts it: only then may a session choose numbers
    with sql.connect(dsn) as session:
        for name in ("next_pg_type_oid", "next_array_pg_type_oid", "next_heap_pg_class_oid"):
            session.execute(
                sql.trusted(
                    f"SELECT binary_upgrade_set_{name}((SELECT max(oid::int8) + 1000 + {len(name)} FROM pg_class)::oid)"
                )
            )
        session.execute("SELECT binary_upgrade_set_next_heap_relfilenode(%s::oid)", [number])
        session.execute("CREATE TABLE after (id int)")
    server.restart()
    sql.execute(dsn, "INSERT INTO after SELECT generate_series(-3000, 0)", "CHECKPOINT")
    # Longer than its first pages say, and some of them changed again after a checkpoint.
    sql.execute(dsn, "UPDATE after SET id = id - 9000 WHERE id > -400")
    assert sql.rows(dsn, "SELECT pg_relation_filepath('after')") == [(path,)]
    taken = site.backup()
    assert methods(taken) == ["increment"], base_of(taken)["reason"]
    question = "SELECT count(*), sum(id), min(id), max(id) FROM after"
    with site.running(taken) as settings:
        assert ask(settings, question, "postgres") == sql.rows(dsn, question)
    sql.execute(dsn, "DROP TABLE after")


def test_checksums_that_were_switched_make_a_full_read(site: BaseSite) -> None:
    """Pages of before have none, or others."""
    server = site.source
    site.backup()
    on = sql.rows(server.dsn(), "SHOW data_checksums") == [("on",)]
    server.stop()
    for option in ("--disable" if on else "--enable",):
        programs.run(
            [str(server._server_programs / "pg_checksums"), option, "-D", str(server.data)], user=server._user
        )
    server.start()
    assert base_of(site.backup())["reason"] == "the setting of data checksums changed"
    assert methods(site.backup()) == ["increment"]


def test_killed_in_the_middle_of_an_overlay(site: BaseSite) -> None:
    """SIGKILL while an increment is laid over: no snapshot, the parent as it was, and the next increment is against it."""
    dsn = site.source.dsn()
    first = site.backup()
    sql.execute(dsn, "UPDATE t SET body = body || 'x'")
    expected = sql.rows(dsn, CONTENT + "t")
    text = (site.root / "job.yaml").read_text()
    (site.root / "slow.yaml").write_text(
        text.replace("kind: postgres-base", "kind: postgres-base\n    max_rate: 1024")
    )
    with subprocess.Popen(
        [DRCTL, "-c", site.root / "slow.yaml", "backup"],
        env=os.environ | {"DRCTL_TEST_DB": site.source.password}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as running:  # fmt: skip
        streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'backup'"
        deadline = time.monotonic() + 30
        while sql.rows(dsn, streaming) != [(1,)]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        running.send_signal(signal.SIGKILL)
    taken = site.backup()
    assert (taken.header.parent, methods(taken)) == (first.id, ["increment"])
    with site.running(taken) as settings:
        assert ask(settings, CONTENT + "t", "postgres") == expected


@newest
def test_two_increments_on_one_parent_are_both_good(site: BaseSite) -> None:
    """No lock: both restore, and the next one is against the newer."""
    dsn = site.source.dsn()
    site.backup()
    sql.execute(dsn, "UPDATE t SET body = 'one' WHERE id = 1")
    header = next((site.root / "repository" / "snapshots").rglob("2*"))
    second = site.backup()
    hidden = (site.root / "repository" / "snapshots" / COMPONENT / second.id).rename(site.root / "hidden")
    third = site.backup()
    hidden.rename(header.with_name(second.id))
    assert (second.header.parent, methods(second, third)) == (third.header.parent, ["increment"] * 2)
    for each in (second, third):
        with site.running(each) as settings:
            assert ask(settings, CONTENT + "t", "postgres") == sql.rows(dsn, CONTENT + "t")


def test_a_role_with_replication_can_have_increments(site: BaseSite) -> None:
    """REPLICATION suffices for the backup itself; the summaries' functions are everybody's, unless somebody took them away."""
    dsn = site.source.dsn()
    sql.execute(dsn, "CREATE ROLE repl LOGIN REPLICATION PASSWORD 'repl'")
    try:
        for name in ("job", "people"):
            path = site.root / f"{name}.yaml"
            path.write_text(
                path.read_text()
                .replace("user: postgres", "user: repl")
                .replace("env:DRCTL_TEST_DB", "env:DRCTL_TEST_REPL")
            )
        os.environ["DRCTL_TEST_REPL"] = "repl"
        site.job = site._load("job", (site.root / "job.yaml").read_text())
        site.backup()
        assert methods(site.backup()) == ["increment"]
        sql.execute(dsn, "REVOKE EXECUTE ON FUNCTION pg_wal_summary_contents FROM PUBLIC")
        assert "may not read WAL summaries" in base_of(site.backup())["reason"]
    finally:
        sql.execute(dsn, "GRANT EXECUTE ON FUNCTION pg_wal_summary_contents TO PUBLIC", "DROP ROLE repl")


@newest
def test_a_fragmented_file_is_sent_whole(site: BaseSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with too many extents is left out of the manifest that the increment is asked against; all others stay increments."""
    dsn = site.source.dsn()
    monkeypatch.setattr(base_plan, "FRAGMENTS", 1)
    [(relation,)] = sql.rows(dsn, "SELECT pg_relation_filepath('t')")
    sql.execute(dsn, "VACUUM FREEZE t")  # else hint bits change every page
    site.backup()
    overlays = []
    for number in range(4):
        sql.execute(dsn, f"UPDATE t SET body = '{number}' WHERE id % 4000 = {number}")
        taken = site.backup()
        with opening.opened_repository(site.job) as repository:
            tree, _packs = repository.trees(taken)
            overlays += [
                i.meta.get("overlays", 0)
                for i in tree.entries(FILES + relation)
                if i.path == FILES + relation
            ]
    assert methods(taken) == ["increment"]
    assert overlays[:2] == [1, 2]
    assert overlays[2] == 0, "read whole after the second"
    with site.running(taken) as settings:
        assert ask(settings, CONTENT + "t", "postgres") == sql.rows(dsn, CONTENT + "t")


@pytest.mark.parametrize(
    "said",
    [
        "pg_basebackup: error: could not initiate base backup: ERROR:  manifest requires WAL from initial timeline 1 ending at 0/9000028, but this backup starts at 0/8000028",
        "pg_basebackup: error: could not initiate base backup: ERROR:  WAL summaries are required on timeline 1 from 0/2000028 to 0/4000028, but no summaries for that timeline and LSN range exist",
        "pg_basebackup: error: could not initiate base backup: ERROR:  timeline 3 found in manifest, but not in this server's history",
    ],
)
def test_what_a_server_says_that_has_no_increment(source: PostgresServer, said: str) -> None:
    """An idle standby, missing summaries, another history: the run goes on with a full read and this reason."""
    settings = opening.connection.resolve(
        host=source.host, port=source.port, database="postgres", user="postgres", sslmode="disable"
    )
    found = reading._explained(errors.ProgramError("it failed", stderr=said), settings)
    assert isinstance(found, base_backup.Unfit)
    assert said.rpartition("ERROR:  ")[2][:20] in found.message
