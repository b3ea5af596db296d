"""What is damaged, moved, replaced, removed or read by a thief: found, named, and never restored."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from devstack import data
from devstack.postgres import PostgresServer
from devstack.s3 import S3Server
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.snapshot import encode_header
from tests.faults.conftest import source_on
from tests.faults.site import COMPONENT, DRCTL, Site, Source

KINDS = ("repository.json", "keys", "packs", "catalogs", "snapshots", "points", "evidence")


@pytest.fixture
def stocked(small_site: Site) -> Site:
    """A repository with an object of every kind."""
    small_site.backup("--point", "before")
    small_site.inside("verify", "--quick").expect(0)
    return small_site


def flip(path: Path, position: int) -> None:
    """Flip one bit. Flipping, not overwriting: the byte is certain to change."""
    body = bytearray(path.read_bytes())
    body[position] ^= 1 << (position % 8)
    path.write_bytes(body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_found_wherever_it_is(stocked: Site, kind: str) -> None:
    """Every kind of object, at its ends and at random places: exit 3, the object is named, and putting it back heals."""
    chance = random.Random(kind)
    for path in stocked.objects() if kind == "repository.json" else stocked.objects(kind):
        name = str(path.relative_to(stocked.directory))
        if kind == "repository.json" and name != kind:
            continue
        whole = path.read_bytes()
        places = {
            0,
            5,
            7,
            13,
            50,
            len(whole) // 2,
            len(whole) - 1,
            *(chance.randrange(len(whole)) for _ in range(4)),
        }
        for position in sorted(p for p in places if p < len(whole)):
            flip(path, position)
            answer = stocked.inside("verify", "--data")
            listed = stocked.inside("snapshots")
            said = answer.out + answer.err + listed.out + listed.err
            assert answer.code == 3, f"a flip of {name} at {position} was not found: {said}"
            assert name in answer.out + answer.err, f"{name} at {position} is not named: {said}"
            if kind in {"points", "evidence"}:
                assert stocked.inside("restore", COMPONENT, "--dry-run").code == 0, (
                    "it is needed by no restore"
                )
                assert listed.code == 3
                assert listed.document["snapshots"], "it hides no snapshot"
            path.write_bytes(whole)
    stocked.inside("verify", "--data").expect(0)


def test_what_only_older_snapshots_use_is_read_by_all(small_site: Site) -> None:
    """The newest snapshot does not touch the damaged pack: --data alone says so of it, --data --all finds it; a pack that two share is read once."""
    old = small_site.backup()["id"]
    only_old = small_site.objects("packs")
    shared = small_site.backup()["id"]
    new = small_site.backup("--full")["id"]
    rows = small_site.inside("verify", "--data", "--all").expect(0).document["results"]
    assert [row["snapshot"] for row in rows] == [new, shared, old]
    newest, middle, oldest = (row["checks"] for row in rows)
    assert newest["bytes_read"] > 0
    assert middle["bytes_read"] > 0
    assert oldest["packs"] > 0
    assert oldest["bytes_read"] == 0, "its packs were read for the one before"
    flip(only_old[0], only_old[0].stat().st_size // 2)
    small_site.inside("verify", "--data").expect(0)
    answer = small_site.inside("verify", "--data", "--all").expect(3)
    rows = answer.document["results"]
    assert [row["result"] for row in rows] == ["passed", "failed", "failed"], "each that needs it says so"
    assert all(only_old[0].name in str(row["failures"]) for row in rows[1:])
    small_site.inside("verify", "--restore", "--all").expect(2)


@pytest.mark.parametrize("kind", ["packs", "catalogs"])
def test_damaged_content_is_never_restored(stocked: Site, root: Path, kind: str) -> None:
    """A restore from a damaged object fails with exit 3 and leaves no file, not even a part of one."""
    for path in stocked.objects(kind):
        flip(path, path.stat().st_size // 2)
    target = root / "out.dump"
    stocked.inside("restore", COMPONENT, "--to", f"file:{target}").expect(3)
    assert list(root.glob("out.dump*")) == []


@pytest.mark.parametrize("kind", ["keys", "packs", "catalogs"])
def test_a_deleted_object_is_found(stocked: Site, kind: str) -> None:
    """Whatever a snapshot needs and is not there makes even --quick fail, with the object's name."""
    path = stocked.objects(kind)[0]
    path.unlink()
    answer = stocked.inside("verify", "--quick").expect(3)
    assert (path.name in answer.out) or kind == "keys"


def test_a_pack_that_is_gone_is_not_relied_on(small_site: Site) -> None:
    """A lost or shortened pack of the parent: its content is stored again, with a warning, and the new snapshot is whole."""
    small_site.backup()
    lost, short = small_site.objects("packs")[0], small_site.objects("packs")[-1]
    lost.unlink()
    if short != lost:
        short.write_bytes(short.read_bytes()[:-1])
    taken = small_site.backup()
    assert any(
        f"packs/{lost.parent.name}/{lost.name}" in w or "packs of earlier" in w for w in taken["warnings"]
    )
    small_site.inside("verify", "--data", "--snapshot", taken["id"], COMPONENT).expect(0)
    assert small_site.backup()["warnings"] == []


def test_a_lost_catalog_has_a_way_on(small_site: Site) -> None:
    """A backup that needs a catalog that is gone fails, names it, and says how to take one that does not."""
    small_site.backup()
    for path in small_site.objects("catalogs"):
        path.unlink()
    error = small_site.inside("backup").expect(3).error
    assert error["on"].startswith("catalogs/")
    assert "--full" in error["hint"]
    small_site.backup("--full")


def test_a_removed_snapshot_is_missing(small_site: Site) -> None:
    """Later headers name it: ``snapshots`` and ``verify`` exit with 3 and say which."""
    first, second = small_site.backup(), small_site.backup()
    (path,) = [p for p in small_site.objects("snapshots") if p.name == first["id"]]
    path.unlink()
    for command in (["snapshots"], ["verify", "--quick"]):
        assert first["id"] in small_site.inside(*command).expect(3).out
    assert second["parent"] == first["id"]


def test_the_newest_snapshot_removed_shows_by_its_head(small_site: Site) -> None:
    """From the bucket alone that cannot be seen; the head that the backup printed is what one compares."""
    small_site.backup()
    taken = small_site.backup()
    next(p for p in small_site.objects("snapshots") if p.name == taken["id"]).unlink()
    listed = small_site.inside("snapshots").expect(0).document["snapshots"]
    assert taken["head"] not in {s["head"] for s in listed}


def test_an_older_snapshot_is_not_restored_in_silence(small_site: Site) -> None:
    """When the newest is damaged or gone, the plan takes the one before it and says so, for people and for scripts."""
    first, second, third = small_site.backup(), small_site.backup(), small_site.backup()
    path = {p.name: p for p in small_site.objects("snapshots")}
    flip(path[third["id"]], path[third["id"]].stat().st_size // 2)
    plan = small_site.inside("restore", COMPONENT, "--dry-run").expect(0).document["plan"]
    assert plan["snapshot"]["id"] == second["id"]
    assert [third["id"] in warning and "damaged" in warning for warning in plan["warnings"]] == [True]
    flip(path[third["id"]], path[third["id"]].stat().st_size // 2)
    path[second["id"]].unlink()
    plan = small_site.inside("restore", COMPONENT, "--dry-run", "--snapshot", first["id"]).document["plan"]
    assert [second["id"] in warning and "gone" in warning for warning in plan["warnings"]] == [True]
    plan = small_site.inside("restore", COMPONENT, "--dry-run").expect(0).document["plan"]
    assert plan["warnings"] == [], "what is older than the chosen one does not matter"


def test_an_exchanged_snapshot_is_refused(small_site: Site) -> None:
    """With the write role a thief can put another header under a proven snapshot's name: evidence knows its digest."""
    taken = small_site.backup()
    small_site.inside("verify", "--quick").expect(0)
    with small_site.opened(small_site.write_config) as repository:
        header = repository.header(COMPONENT, taken["id"]).header
        name = f"snapshots/{COMPONENT}/{taken['id']}"
        changed = encode_header(msgspec.structs.replace(header, warnings=["exchanged"]))
        (small_site.directory / name).unlink()
        repository._put_sealed(name, b"S", changed)
    error = small_site.inside("restore", COMPONENT, "--dry-run").expect(3).error
    assert "exchanged" in error["message"]
    named = ["restore", COMPONENT, "--dry-run", "--snapshot", taken["id"]]
    plan = small_site.inside(*named).expect(0).document["plan"]
    assert ["evidence" in warning for warning in plan["warnings"]] == [True]


def test_a_copy_opens_elsewhere_and_moved_objects_do_not(stocked: Site, root: Path) -> None:
    """A repository is its objects: copied whole it opens; an object under another name does not."""
    copy = root / "elsewhere"
    shutil.copytree(stocked.directory, copy)
    stocked.configure(url=f"file://{copy}")
    stocked.inside("verify", "--data").expect(0)
    packs = sorted(p for p in (copy / "packs").rglob("*") if p.is_file())
    moved = packs[0].with_name(packs[0].name[:2] + os.urandom(15).hex())
    body = packs[0].read_bytes()
    packs[0].unlink()
    moved.write_bytes(body)
    stocked.inside("verify", "--data").expect(3)
    header = next(p for p in (copy / "snapshots").rglob("*Z-*"))
    header.rename(header.with_name(header.name[:-1] + ("0" if header.name[-1] != "0" else "1")))
    stocked.inside("snapshots").expect(3)


@pytest.mark.parametrize("replaced", ["repository.json and keys", "keys", "public half"])
def test_a_thief_cannot_redirect_later_backups(
    stocked: Site, new_site: Callable, small_source: Source, replaced: str
) -> None:
    """With the trust pinned, keys of somebody else are refused before anything is written."""
    other = new_site(small_source)
    before = [p.name for p in stocked.objects("packs")]
    (ours,), (theirs,) = stocked.objects("keys"), other.objects("keys")
    if replaced == "public half":
        text, foreign = ours.read_text(), theirs.read_text()
        mark = '"public_key":"'
        start, other_start = text.index(mark) + len(mark), foreign.index(mark) + len(mark)
        half = foreign[other_start : foreign.index('"', other_start)]
        ours.write_text(text[:start] + half + text[text.index('"', start) :])
    else:
        ours.write_bytes(theirs.read_bytes())
        if "repository" in replaced:
            shutil.copy(other.directory / "repository.json", stocked.directory / "repository.json")
    answer = stocked.inside("backup", config=stocked.write_config).expect(3)
    assert answer.error["code"] == "untrusted-keys"
    assert [p.name for p in stocked.objects("packs")] == before


def test_the_write_role_alone_reads_nothing(small_site: Site) -> None:
    """It backs up twice, the second time incrementally; verify --data and restore are refused with a hint."""
    first = small_site.backup()
    second = small_site.backup()
    assert second["bytes_stored"] < first["bytes_stored"] / 5
    for command in (
        ["verify", "--data"],
        ["restore", COMPONENT, "--to", "file:/dev/shm/never"],
        ["verify", "--restore"],
    ):
        answer = small_site.inside(*command, config=small_site.write_config).expect(1)
        assert answer.error["code"] == "key-refused"
        assert "read" in answer.error["hint"]
    assert not Path("/dev/shm/never").exists()
    assert small_site.objects("evidence") == []


def test_two_backups_at_once(small_site: Site) -> None:
    """No lock, and both are whole."""
    runs = [small_site.start("backup", config=small_site.write_config) for _ in range(2)]
    ids = {run.wait().expect(0).snapshot["id"] for run in runs}
    assert set(small_site.ids()) == ids
    for one in ids:
        small_site.inside("verify", COMPONENT, "--data", "--snapshot", one).expect(0)
    small_site.is_as_good_as_before(small_site.ids())


def test_a_frozen_backup_misses_its_deadline(new_site: Callable, source: Source) -> None:
    """SIGSTOP past the commit deadline: nothing is committed, and the next run succeeds."""
    site = new_site(source, grace="6s")
    run = site.start("backup", config=site.write_config)
    run.until_event("started")
    run.signal(signal.SIGSTOP)
    time.sleep(4)
    run.signal(signal.SIGCONT)
    answer = run.wait().expect(1)
    assert answer.error["code"] == "commit-refused"
    assert site.ids() == []


AN_HOUR_BACK = """\
from datetime import timedelta
from dr_toolkit import clock
right = clock.now
clock.now = lambda: right() - timedelta(hours=1)
"""
"""Put in front of every module of a real drctl: only ``clock.py`` reads the clock, so this is its machine's."""


def test_a_clock_an_hour_back(small_site: Site) -> None:
    """The storage's time counts: order, parent, deadline and the age of the newest snapshot come out as ever."""
    before = small_site.backup()
    (small_site.root / "back").mkdir()
    (small_site.root / "back" / "sitecustomize.py").write_text(AN_HOUR_BACK)
    small_site.environment["PYTHONPATH"] = str(small_site.root / "back")
    asked = "from dr_toolkit import clock; from datetime import *; print(datetime.now(UTC) - clock.now())"
    told = subprocess.run(
        [sys.executable, "-c", asked],
        env={**os.environ, **small_site.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.startswith(("1:00:00", "0:59:59")), "the clock is not an hour back"
    made = small_site.drctl("backup").expect(0).snapshot
    assert made["parent"] == before["id"]
    assert made["time"] >= before["time"]
    assert made["warnings"] == before["warnings"]
    small_site.drctl("verify", COMPONENT, "--data").expect(0)
    small_site.drctl("status").expect(0)
    out = small_site.root / "as-ever.dump"
    small_site.drctl("restore", COMPONENT, "--to", f"file:{out}").expect(0)
    del small_site.environment["PYTHONPATH"]
    again = small_site.backup()
    assert again["parent"] == made["id"]
    small_site.is_as_good_as_before([before["id"], made["id"], again["id"]])


NEARLY_FULL = (
    'cp -a "$0" "$0.kept" && mount -t tmpfs -o size=3m tmpfs "$0" && cp -a "$0.kept/." "$0" && '
    'free=$(df --output=avail -B4096 "$0" | tail -n 1) && head -c $(((free - 2) * 4096)) /dev/zero > "$0/filler"; '
    '"$@"; code=$?; rm "$0/filler"; cp -a "$0" "$0.after"; exit $code'
)


def test_a_full_disk(new_site: Callable, small_source: Source) -> None:
    """ENOSPC: exit 1, nothing half-written, and with space again the next run succeeds."""
    site = new_site(small_source)
    kept = site.backup()
    place = site.directory
    command = [str(DRCTL), "backup", "--full", "--config", str(site.write_config), "--output", "json"]
    ended = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", NEARLY_FULL, str(place), *command],
        env={**os.environ, "TMPDIR": str(site.tmp), **site.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 1, ended.stderr + ended.stdout
    assert json.loads(ended.stdout)["failures"][0]["code"] == "store-full"
    place.rename(place.with_name("before"))
    place.with_name(f"{place.name}.after").rename(place)
    assert site.ids() == [kept["id"]]
    site.is_as_good_as_before([kept["id"]])


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
FULL = (
    'cp -a "$0" "$0.kept" && mount -t tmpfs -o size=32m tmpfs "$0" && cp -a "$0.kept/." "$0" && '
    '{ cat /dev/zero > "$0/filler" 2>&-; sync; ! echo x > "$0/probe"; } 2>&- && exec "$@"'
)


@pytest.mark.parametrize("state", [READ_ONLY, FULL], ids=["read-only", "full"])
def test_a_repository_that_takes_no_write_can_be_read(stocked: Site, root: Path, state: str) -> None:
    """A copy on a read-only medium, or a full disk: lists, verifies (evidence is not stored, and it says so) and restores."""
    (taken,) = stocked.ids()
    target = root / "out.dump"
    for arguments in (["snapshots"], ["verify", "--data"], ["restore", COMPONENT, "--to", f"file:{target}"]):
        command = [str(DRCTL), *arguments, "--config", str(stocked.config), "--output", "json"]
        ended = subprocess.run(
            ["unshare", "--mount", "--map-root-user", "sh", "-c", state, str(stocked.directory), *command],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == 0, ended.stderr + ended.stdout
        assert taken in ended.stdout
        if arguments[0] == "verify":
            assert "evidence not stored" in ended.stderr
        shutil.rmtree(f"{stocked.directory}.kept", ignore_errors=True)
    assert target.stat().st_size > 0


def test_the_storage_goes_and_comes_back(new_s3_site: Callable, source: Source, root: Path) -> None:
    """A server that is away for seconds delays a backup. (One that stays away: `test_the_storage_goes_away_for_good`.)"""
    server = S3Server(root / "s3")
    server.start()
    try:
        site = new_s3_site(server, source)
        run = site.start("backup", config=site.write_config)
        run.until_event("started")
        server.stop()
        time.sleep(3)
        server.start()
        taken = run.wait().expect(0).snapshot
        site.is_as_good_as_before([taken["id"]])
    finally:
        server.remove()


def test_the_database_dies_in_the_middle(new_site: Callable, root: Path) -> None:
    """PostgreSQL killed: no snapshot; when it is back, the next run succeeds."""
    server = PostgresServer(root / "pg")
    server.start()
    try:
        data.fill_console_like(server.create_database("dies"), scale=1.0)
        site = new_site(source_on(server, "dies"))
        run = site.start("backup", config=site.write_config)
        run.until_event("started")
        run.program("pg_dump")
        server.kill()
        assert run.wait().code in {1, 5}
        assert site.ids() == []
        server.start()
        site.is_as_good_as_before([])
    finally:
        server.remove()


def needles(secret: str) -> list[bytes]:
    """The forms in which a secret could leak."""
    raw = secret.encode()
    return [raw, base64.b64encode(raw)[:-2], raw.hex().encode()]


def leaks(secret: str, *haystacks: bytes) -> bool:
    """Whether any form of the secret is in any of them."""
    return any(needle in hay for needle in needles(secret) for hay in haystacks)


def core_limits_of(processes: Iterable[psutil.Process]) -> set[bytes]:
    """The largest core file that each of these processes may leave."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError, IndexError):
            limits = Path(f"/proc/{process.pid}/limits").read_bytes()
            found.add(limits.split(b"Max core file size")[1].split()[0])
    return found


@pytest.fixture
def core_files_allowed() -> Iterator[None]:
    """As on a machine where a program that crashes leaves its memory in a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("core_files_allowed")
def test_a_planted_password_leaks_nowhere(small_site: Site, small_source: Source) -> None:
    """Not in output, logs, arguments, environments, stored objects, what a crash says, or anything that decrypts: content, catalogs, headers, evidence."""
    secret = small_source.password
    assert leaks(secret, b"x" + secret.encode()), "the check itself must be able to fail"
    for directory in (small_site.root.parent, small_site.root, small_site.tmp):
        directory.chmod(0o755)  # where root runs this, scratch servers run as another user
    arguments: set[bytes] = set()
    core_limits: set[bytes] = set()
    answers = []
    for command in (["backup"], ["verify", "--restore"], ["restore", COMPONENT, "--to", "canary_out"]):
        run = small_site.start(*command, "-vv")
        while run.running:
            for process in [psutil.Process(run.pid), *run.family()]:
                for part in ("cmdline", "environ"):
                    try:
                        arguments.add(Path(f"/proc/{process.pid}/{part}").read_bytes())
                    except OSError:
                        continue
            core_limits |= core_limits_of(run.family())
            time.sleep(0.02)
        answers.append(run.wait().expect(0))
    run = small_site.start("backup", "--full", "-vv")
    run.until_event("started")
    run.signal(signal.SIGSEGV)
    answers.append(run.wait().expect(-signal.SIGSEGV))
    assert "Segmentation fault" in answers[-1].err, "a crash says where it was"
    small_site.password_file.write_text("wrong-" + secret + "\n")
    answers.append(small_site.drctl("backup"))
    assert answers[-1].code != 0
    said = [text.encode() for a in answers for text in (a.out, a.err)]
    stored = [path.read_bytes() for path in small_site.objects()]
    assert not leaks(secret, *said, *stored, *arguments)
    assert core_limits == {b"0"}, (
        "a program that crashes would leave its memory, passwords and all, in a file"
    )
    small_site.password_file.write_text(secret + "\n")
    with small_site.opened() as repository:
        found, _damaged = repository.snapshots()
        inside = [repr((s.header, repository.evidence())).encode() for s in found]
        for one in found:
            with SnapshotReader(repository, one) as reader:
                inside += [repr(entry).encode() for entry in reader.entries()]
                inside += [b"".join(reader.read(entry.path)) for entry in reader.entries()]
    # The check must be able to fail: definitions and the hashes of passwords do decrypt here.
    assert all(any(part in hay for hay in inside) for part in (b"CREATE TABLE", b"SCRAM-SHA-256$"))
    assert not leaks(secret, *inside)
    small_site.leaves_no_credentials()
