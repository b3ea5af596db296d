"""The measurements. Each does its rounds interleaved: one of ours, one of the peer's, and again, the order changing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Run
from benchmarks.site import COMPONENT, DATABASE, Site, Store, missing_peers
from devstack import data

Results = dict[str, list[Run]]
Contender = Callable[[], Run]

CHANGED = "bench_changed"
RESTORED = "bench_restored"


def interleaved(contenders: dict[str, Contender], rounds: int) -> Results:
    """Run every contender once a round; each round begins with another one.

    Args:
        contenders: by name.
        rounds: how many.

    Returns:
        The runs by name.
    """
    names = list(contenders)
    results: Results = {name: [] for name in names}
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            run = contenders[name]()
            results[name].append(run)
            print(f"  round {number + 1}: {name}: {run.seconds:.2f} s, {run.cpu:.2f} s CPU", flush=True)
    return results


def dump(site: Site, store: Store, rounds: int) -> Results:
    """A first backup against pg_dump, zstd and rclone.

    Args:
        site: servers and database.
        store: where to.
        rounds: how many.
    """

    def ours() -> Run:
        config = site.new_repository(store)
        run = site.drctl(config, "backup", COMPONENT)
        (snapshot,) = run.document["snapshots"]
        run.stored = snapshot["bytes_stored"]
        site.remove_repository(config)
        return run

    def peer() -> Run:
        remote, config = site.remote(store)
        run = site.dump_peer(remote, config)
        site.remove_remote(config)
        return run

    contenders: dict[str, Contender] = {"drctl backup": ours}
    if missing := missing_peers():
        print(f"\n!!! THE PEER IS LEFT OUT, because this machine lacks {' and '.join(missing)}\n", flush=True)
    else:
        contenders["pg_dump | zstd | rclone"] = peer
    return interleaved(contenders, rounds)


def incremental(site: Site, rounds: int) -> Results:
    """What the second and later snapshots store and take.

    Args:
        site: servers and database.
        rounds: how many times the whole sequence is done, on a fresh copy of the database.
    """
    steps: dict[str, Callable[[str], int]] = {
        "first": lambda _dsn: 0,
        "unchanged": lambda _dsn: 0,
        "1% rows appended": lambda dsn: data.append_events(dsn, 0.01),
        "unchanged again": lambda _dsn: 0,
        "0.1% of rows updated at random": lambda dsn: data.update_events(dsn, 0.001),
        "1% of rows updated at random": lambda dsn: data.update_events(dsn, 0.01, seed=4),
    }
    results: Results = {name: [] for name in steps}
    for number in range(rounds):
        site.copy_database(CHANGED)
        config = site.new_repository("disk", CHANGED)
        for name, change in steps.items():
            change(site.dsn(CHANGED))
            run = site.drctl(config, "backup", COMPONENT)
            (snapshot,) = run.document["snapshots"]
            run.stored = snapshot["bytes_stored"]
            results[name].append(run)
            print(f"  round {number + 1}: {name}: {run.seconds:.2f} s, {run.stored} bytes", flush=True)
        site.remove_repository(config)
        site.postgres.drop_database(CHANGED)
    return results


def restore(site: Site, rounds: int) -> Results:
    """A restore from the repository against pg_restore from the same archive on disk.

    Args:
        site: servers and database.
        rounds: how many.
    """
    config = site.new_repository("disk")
    site.drctl(config, "backup", COMPONENT)
    archive = Path(site.root / "exact.dump")
    site.drctl(config, "restore", COMPONENT, "--to", f"file:{archive}")

    def ours() -> Run:
        return _dropped(site, lambda: site.drctl(config, "restore", COMPONENT, "--to", RESTORED))

    def peer(*options: str) -> Contender:
        return lambda: _dropped(site, lambda: site.restore_peer(archive, RESTORED, *options))

    results = interleaved(
        {"drctl restore": ours, "pg_restore": peer(), "pg_restore -j 2": peer("-j", "2")}, rounds
    )
    site.remove_repository(config)
    for written in (archive, Path(f"{archive}.globals.sql")):
        written.unlink()
    return results


def memory(site: Site) -> Results:
    """Memory of one backup to each storage, and of one restore.

    Args:
        site: servers and database.
    """
    config = site.new_repository("s3")
    distant = site.drctl(config, "backup", COMPONENT)
    site.remove_repository(config)
    config = site.new_repository("disk")
    backup = site.drctl(config, "backup", COMPONENT)
    restored = _dropped(site, lambda: site.drctl(config, "restore", COMPONENT, "--to", RESTORED))
    site.remove_repository(config)
    return {"backup, to the S3 server": [distant], "backup, to disk": [backup], "restore": [restored]}


def _dropped(site: Site, work: Contender) -> Run:
    try:
        return work()
    finally:
        site.postgres.drop_database(RESTORED)


__all__ = ["DATABASE", "Results", "dump", "incremental", "interleaved", "memory", "restore"]
