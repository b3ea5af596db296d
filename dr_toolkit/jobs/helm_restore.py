"""Bring Helm releases back as files and the lines that install them, or compare them with what is live. Nothing is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dr_toolkit import clock, errors, log
from dr_toolkit.cluster import release_diff, release_files, release_reading, releases, workloads
from dr_toolkit.cluster.release_diff import Difference
from dr_toolkit.cluster.release_files import Way
from dr_toolkit.cluster.release_reading import Stored
from dr_toolkit.config import Config, HelmConfig
from dr_toolkit.jobs import clusters, opening, redactors, selection
from dr_toolkit.jobs.clusters import Chosen
from dr_toolkit.jobs.request import Request
from dr_toolkit.log import Progress
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository

_FILE = "file:"
_log = log.get("jobs.restore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Chosen):
    """A restore that is planned and not yet begun.

    Attributes:
        releases: that the snapshot has.
        place: the directory; empty for a comparison.
    """

    releases: tuple[Stored, ...]
    place: str


@dataclass(slots=True)
class Done:
    """What a restore did.

    Attributes:
        prepared: the plan.
        ways: by release; empty for a comparison.
        differences: of a comparison.
        seconds: it took.
    """

    prepared: Prepared
    ways: list[tuple[Stored, str, Way]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def prepare(config: Config, repository: Repository, request: Request) -> Prepared:
    """Find the releases. Changes nothing.

    Raises:
        UsageError: no directory was named, and no comparison was asked for.
        TargetError: the directory is somebody's.
        NothingToDo: the snapshot has no release.
    """
    opening.expect(opening.known_component(config, request.component), HelmConfig)
    place = (request.to or "").removeprefix(_FILE)
    if request.tables or bool(place) == request.diff:
        raise errors.UsageError(
            "releases are restored into a directory, or compared with what is live",
            on=request.component,
            hint=f"drctl restore {request.component} --to DIR, or drctl restore {request.component} --diff",
            unaffected="nothing was started",
        )
    found = clusters.chosen(repository, request)
    if place:
        _check_new(Path(place))
    tree, _packs = repository.trees(found.snapshot)
    there = release_reading.chosen(tree.entries())
    if not there:
        raise errors.NothingToDo(f'snapshot "{found.snapshot.id}" has no release', on=found.snapshot.id)
    selection.check_one_namespace(request.namespace, {one.namespace for one in there}, request.component)
    return Prepared(
        request=request,
        snapshot=found.snapshot,
        seconds_lost=found.seconds_lost,
        doubts=(*found.doubts, *_not_deployed(there)),
        releases=tuple(there),
        place=place,
    )


def run(
    config: Config, repository: Repository, prepared: Prepared, progress: Progress, *, end_sessions: bool
) -> Done:
    """Write the files, or compare.

    Raises:
        TargetError: a file cannot be written.
    """
    del end_sessions
    began, done = clock.monotonic(), Done(prepared)
    component = opening.expect(opening.known_component(config, prepared.request.component), HelmConfig)
    progress.start(None, f"{prepared.request.component}: reading")
    with SnapshotReader(repository, prepared.snapshot) as source:
        if prepared.request.diff:
            done.differences = _compare(config, repository, source, prepared)
        else:
            header = prepared.snapshot.header
            origin = f"drctl, from snapshot {header.id} of {header.component}, taken {header.time}"
            done.ways = write(source, prepared.releases, Path(prepared.place), component.repositories, origin)
    done.seconds["all"] = clock.monotonic() - began
    _log.info("restored", to=prepared.place or "comparison", snapshot=prepared.snapshot.id)
    return done


def write(
    source: SnapshotReader,
    wanted: tuple[Stored, ...],
    place: Path,
    repositories: Mapping[str, str],
    origin: str,
) -> list[tuple[Stored, str, Way]]:
    """Write releases below a directory.

    Returns:
        Each release, its directory, and the line that installs it.
    """
    ways = []
    states: dict[str, dict[str, Any]] = {}
    for one in wanted:
        if one.namespace not in states:
            states = {one.namespace: release_reading.state(source, one.namespace)}
        release = release_reading.read(source, one.path)
        images = release_diff.workloads_of(states[one.namespace], one.release)
        made = release_files.files(
            release, driver=one.driver, repositories=repositories, origin=origin, images=images
        )
        there = place / one.namespace / one.release
        release_files.write(there, made)
        ways.append((one, str(there), release_files.way_back(release, one.driver, repositories)))
    return ways


def _compare(
    config: Config, repository: Repository, source: SnapshotReader, prepared: Prepared
) -> list[Difference]:
    found, known = [], redactors.known(repository)
    states: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    there: dict[tuple[str, str], dict[str, releases.State]] = {}
    with clusters.opened(config) as cluster:
        for one in prepared.releases:
            place = prepared.request.namespace or one.namespace
            if (place, one.driver) not in there:
                there[place, one.driver] = releases.states(cluster, place, one.driver)
            newest = there[place, one.driver].get(one.release)
            name = newest.stored if newest else ""
            now = releases.live(cluster, place, one.driver, one.release, name=name) if name else None
            if now is None:
                found.append(Difference(place, one.release, absent="no deployed revision is live"))
                continue
            if one.namespace not in states:
                kept_state = release_reading.state(source, one.namespace)
                live_state = workloads.read(cluster, place) if kept_state else {}
                states[one.namespace] = (kept_state, live_state)
            kept = release_reading.read(source, one.path)
            redactor = redactors.of(known, [str(kept.get("manifest")), str(now.get("manifest"))])
            images = [release_diff.images_of(state, one.release) for state in states[one.namespace]]
            found.append(release_diff.compare(kept, now, images[0], images[1], redactor))
    return found


def _not_deployed(there: list[Stored]) -> list[str]:
    sentences = [
        f'release "{one.namespace}/{one.release}": no revision was deployed; revision {one.revision} ({one.status}) is used'
        for one in there
        if one.status != "deployed"
    ]
    return sentences + [
        f'release "{one.namespace}/{one.release}": revision {one.newest[0]} was {one.newest[1]}; revision {one.revision}, which was deployed, is used'
        for one in there
        if one.newest
    ]


def _check_new(place: Path) -> None:
    try:
        taken = place.exists() and (not place.is_dir() or any(place.iterdir()))
    except OSError as error:
        raise errors.TargetError(
            f'"{place}" cannot be looked into: {error.strerror}', on=str(place)
        ) from error
    if taken:
        raise errors.TargetError(
            f'"{place}" is not a new or empty directory',
            on=str(place),
            hint="name another one",
            unaffected="nothing was started",
        )
