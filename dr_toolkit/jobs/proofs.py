"""Proofs of several snapshots beside each other: each in a scratch place of its own, none of them left when the gate ends."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from dr_toolkit import errors, log
from dr_toolkit.config import Config
from dr_toolkit.jobs import inspect, kinds, verify
from dr_toolkit.jobs import side_by_side as beside
from dr_toolkit.jobs.verify import Result
from dr_toolkit.log import Progress
from dr_toolkit.repository import layout
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.proofs")


def run(
    config: Config, repository: Repository, wanted: Sequence[Snapshot], progress: Progress
) -> Iterator[tuple[str, Result | errors.DrctlError]]:
    """Prove snapshots by restore, several at a time where that is safe; each result comes when it is there, its evidence stored.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        wanted: at most one snapshot of each component.
        progress: told of all of them in one line.

    Yields:
        The component, and its result or why it could not be tried.

    Raises:
        Interrupted: a signal or a deadline came. Every proof was ended and has cleaned up.
    """
    if not wanted:
        return
    lost = known_losses(repository, [s.header.component for s in wanted])
    width = side_by_side([need(config, s) for s in wanted], _free(), limit(config))
    _log.info("proving", components=[s.header.component for s in wanted], side_by_side=width)
    by_name = {found.header.component: found for found in wanted}

    def prove(name: str, part: Progress) -> Result:
        request = verify.Request((name,), "restore", snapshot=by_name[name].id)
        return verify.one(config, repository, request, by_name[name], part, lost[name])

    # The largest first: what takes longest must not begin last.
    order = [found.header.component for found in sorted(wanted, key=lambda s: -need(config, s))]
    for name, task in beside.run(order, width, prove, progress):
        yield name, _outcome(repository, task)


def _outcome(repository: Repository, task: Future[Result]) -> Result | errors.DrctlError:
    try:
        result = task.result()
    except errors.DrctlError as error:
        return error
    verify.sign(repository, [result])
    return result


def known_losses(repository: Repository, names: Sequence[str]) -> dict[str, list[str]]:
    """What is damaged or missing of each component, in words."""
    snapshots, damaged = repository.snapshots()
    findings = repository.missing(snapshots, damaged)
    return {
        name: [f.text for f in findings if f.component == name]
        + [
            f'{e.message} ("{e.on}")'
            for e in damaged
            if (e.on or "").startswith(f"{layout.SNAPSHOTS}{name}/")
        ]
        + inspect.found_damaged([s for s in snapshots if s.header.component == name])
        for name in names
    }


def side_by_side(needs: Sequence[int], free: int, most: int) -> int:
    """How many can be restored at a time. The largest of them must fit together; one alone is always tried. Pure.

    Args:
        needs: bytes that each takes up in this machine's scratch place.
        free: bytes that are free there.
        most: never more than these.
    """
    largest = sorted(needs, reverse=True)
    width = 1
    while width < min(most, len(largest)) and sum(largest[: width + 1]) <= free:
        width += 1
    return width


def limit(config: Config) -> int:
    """How many are wanted at a time: the configuration's word, else the cores'."""
    if config.verify.scratch == "sidecar":  # there is one server for all of them
        return 1
    return config.verify.parallel or beside.width()


def need(config: Config, found: Snapshot) -> int:
    """Bytes that its restore takes up on this machine."""
    if kinds.in_namespace(found.header.kind, config.verify.scratch):
        return 0
    stated = found.header.source.get("database_bytes")
    return max(stated if isinstance(stated, int) else 0, found.header.bytes_source)


def _free() -> int:
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return 0
