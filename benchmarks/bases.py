"""The measurements of base backups: each contender once a round, of the same cluster."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks import table
from benchmarks.base_site import CHANGES, COMPONENT, BaseSite, has_barman
from benchmarks.cases import Contender, Results, interleaved
from benchmarks.measure import Run
from benchmarks.site import Store

OLD, NEW = 15, 18
"""The last version that Debian's pgBackRest knows, and the first choice for native increments."""
INCREMENTS = 10
PLACE, RANDOM = CHANGES


def measure(name: str, megabytes: float, rounds: int) -> list[str]:
    """One measurement on servers of its own.

    Args:
        name: one of ``NAMES``.
        megabytes: of the cluster.
        rounds: how many.

    Returns:
        Its tables.
    """
    version, work = NAMES[name]
    with BaseSite(megabytes, version) as site:
        size = site.bytes
        lines = table.cluster(site.postgres.dsn(), size, rounds)
        for title, results in work(site, rounds).items():
            lines += table.comparison(f"{name}: {title}", results, size, stored=True)
        return lines


def full(site: BaseSite, rounds: int, store: Store = "disk") -> dict[str, Results]:
    """A first backup into an empty repository."""

    def ours() -> Run:
        site.archive_with("true")
        config = site.new_repository(store)
        run = _backup(site, config)
        site.remove_repository(config)
        return run

    def pgbackrest() -> Run:
        config = site.new_pgbackrest(store)
        run = site.pgbackrest(config, "backup", "--type=full")
        site.archive_with("true")
        shutil.rmtree(config.parent)
        return run

    def barman() -> Run:
        config = site.new_barman()
        run = site.barman(config, "backup", "bench")
        site.archive_with("true")
        shutil.rmtree(config.parent)
        return run

    contenders: dict[str, Contender] = {"drctl backup": ours, "pgbackrest backup": pgbackrest}
    if store == "disk" and has_barman():
        contenders["barman backup (not encrypted)"] = barman
    return {f"a full, to {store}": interleaved(contenders, rounds)}


def full_s3(site: BaseSite, rounds: int) -> dict[str, Results]:
    """The same to the S3 server."""
    return full(site, rounds, "s3")


def incremental(site: BaseSite, rounds: int) -> dict[str, Results]:
    """What every version can do: the cluster is read, and what is known is not stored again."""
    config, peer = site.new_repository("disk"), site.new_pgbackrest("disk")
    _backup(site, config)
    site.pgbackrest(peer, "backup", "--type=full")
    contenders = {
        "drctl backup": lambda: _backup(site, config),
        "pgbackrest backup --type=incr": lambda: site.pgbackrest(peer, "backup", "--type=incr"),
    }
    return {what: _after_changes(site, what, contenders, rounds) for what in CHANGES}


def native(site: BaseSite, rounds: int) -> dict[str, Results]:
    """Where the server says itself what changed. pgBackRest of Debian knows no such server: see ``base-incremental``."""
    config = site.new_repository("disk")
    _backup(site, config)
    last = [_native_backup(site, site.folder("native"), None)]

    def whole() -> Run:
        other = site.new_repository("disk")
        run = _backup(site, other)
        site.remove_repository(other)
        return run

    def theirs() -> Run:
        folder = site.folder("native")
        run = _native_backup(site, folder, last[0].document["folder"])
        last[0] = run
        return run

    contenders: dict[str, Contender] = {
        "drctl backup, an increment": lambda: _backup(site, config),
        "drctl backup, a full": whole,
        "pg_basebackup --incremental (not compressed)": theirs,
    }
    return {what: _after_changes(site, what, contenders, rounds) for what in CHANGES}


def restore(site: BaseSite, rounds: int) -> dict[str, Results]:
    """The tenth increment of 15, against pgBackRest."""
    config, peer = site.new_repository("disk"), site.new_pgbackrest("disk")
    _backup(site, config)
    site.pgbackrest(peer, "backup", "--type=full")
    for _ in range(INCREMENTS):
        site.change(RANDOM)
        _backup(site, config)
        site.pgbackrest(peer, "backup", "--type=incr")
    fresh = site.new_repository("disk")
    _backup(site, fresh)

    def theirs(*, start: bool) -> Run:
        target = site.folder("restored")
        target.chmod(0o700)
        run = site.pgbackrest(
            peer, "restore", f"--pg1-path={target}", "--type=immediate", "--target-action=promote"
        )
        if start:
            run = _sum(run, site.start_and_stop(target))
        shutil.rmtree(target)
        return run

    files = {
        "drctl restore --no-start": lambda: _restore(site, config, "--no-start"),
        "drctl restore --no-start, of a full": lambda: _restore(site, fresh, "--no-start"),
        "pgbackrest restore": lambda: theirs(start=False),
    }
    started = {
        "drctl restore (pg_verifybackup, start, query)": lambda: _restore(site, config),
        "pgbackrest restore, start": lambda: theirs(start=True),
    }
    return {
        "files of the tenth increment": interleaved(files, rounds),
        "until it has answered": interleaved(started, rounds),
    }


def restore_native(site: BaseSite, rounds: int) -> dict[str, Results]:
    """The tenth native increment of 18, against ``pg_combinebackup`` of all."""
    config = site.new_repository("disk")
    _backup(site, config)
    folders = [site.folder("native")]
    _native_backup(site, folders[0], None)
    for _ in range(INCREMENTS):
        site.change(RANDOM)
        _backup(site, config)
        folders.append(site.folder("native"))
        _native_backup(site, folders[-1], folders[-2])
    fresh = site.new_repository("disk")
    _backup(site, fresh)

    def combined() -> Run:
        target = site.folder("combined")
        target.chmod(0o700)
        names = [str(folder) for folder in folders]
        run = site.run("pg_combinebackup", *names, "--output", str(target), as_user=True)
        shutil.rmtree(target)
        return run

    return {
        "files of the tenth increment": interleaved(
            {
                "drctl restore --no-start": lambda: _restore(site, config, "--no-start"),
                "drctl restore --no-start, of a full": lambda: _restore(site, fresh, "--no-start"),
                "pg_combinebackup": combined,
            },
            rounds,
        )
    }


def _after_changes(site: BaseSite, what: str, contenders: dict[str, Contender], rounds: int) -> Results:
    """Change something before each round."""
    results: Results = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(rounds):
        site.change(what)
        turn = number % len(names)
        ordered = {name: contenders[name] for name in names[turn:] + names[:turn]}
        for name, runs in interleaved(ordered, 1).items():
            results[name] += runs
    return results


def _backup(site: BaseSite, config: Path) -> Run:
    run = site.drctl(config, "backup", COMPONENT)
    (snapshot,) = run.document["snapshots"]
    run.stored = snapshot["bytes_stored"]
    return run


def _restore(site: BaseSite, config: Path, *options: str) -> Run:
    target = site.folder("restored") / "data"
    run = site.drctl(config, "restore", COMPONENT, "--to", str(target), "--yes", *options)
    shutil.rmtree(target.parent)
    return run


def _native_backup(site: BaseSite, folder: Path, earlier: Path | None) -> Run:
    options = [] if earlier is None else [f"--incremental={earlier}/backup_manifest"]
    run = site.run(
        "pg_basebackup", "-D", str(folder), "-c", "fast", "-X", "fetch", *site.where, *options, as_user=True
    )
    run.document = {"folder": folder}
    run.stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return run


def _sum(first: Run, second: Run) -> Run:
    return Run(first.seconds + second.seconds, first.cpu + second.cpu, first.servers_cpu + second.servers_cpu)


NAMES: dict[str, tuple[int, Callable[[BaseSite, int], dict[str, Results]]]] = {
    "base-full": (OLD, full),
    "base-full-s3": (OLD, full_s3),
    "base-incremental": (OLD, incremental),
    "base-native": (NEW, native),
    "base-restore": (OLD, restore),
    "base-restore-native": (NEW, restore_native),
}
