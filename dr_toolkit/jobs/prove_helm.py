"""Verification by restore of Helm releases: every revision is read, the files are written into scratch and read back, and rendered anew where helm is at hand."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dr_toolkit import clock, errors, process
from dr_toolkit.cluster import helm_storage, manifest, release_files, release_reading, releases
from dr_toolkit.cluster.release_reading import Stored
from dr_toolkit.config import Config, HelmConfig
from dr_toolkit.jobs import helm_restore
from dr_toolkit.log import Progress
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_RENDER_SECONDS = 60.0
_SHOWN = 5


@dataclass(slots=True)
class _Found:
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, name: str, number: int = 1) -> None:
        """Count something."""
        self.counts[name] = self.counts.get(name, 0) + number


def restore_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Read every revision, restore every release into scratch, and compare.

    Returns:
        What was checked (counts and seconds), failures, and notes.

    Raises:
        DataError: the snapshot's own objects are damaged.
    """
    began, result = clock.monotonic(), _Found()
    component = config.components.get(found.header.component)
    repositories = component.repositories if isinstance(component, HelmConfig) else {}
    progress.start(found.header.bytes_source, f"{found.header.component}: reading")
    with (
        tempfile.TemporaryDirectory(prefix="drctl-scratch-") as scratch,
        SnapshotReader(repository, found) as source,
    ):
        _revisions(source, result, progress)
        wanted = tuple(release_reading.stored(source))
        ways = helm_restore.write(source, wanted, Path(scratch), repositories, "scratch")
        read = clock.monotonic()
        for stored, place, _way in ways:
            _files(source, stored, Path(place), result)
    checks: dict[str, Any] = {**result.counts, "releases": len(ways)}
    checks["seconds"] = {"read": round(read - began, 3), "compare": round(clock.monotonic() - read, 3)}
    return checks, result.failures, result.notes


def _revisions(source: SnapshotReader, result: _Found, progress: Progress) -> None:
    for info in source.entries():
        if info.kind == releases.BROKEN:
            result.notes.append(f"{info.path} was broken in Helm's storage: {info.meta.get('reason')}")
        if info.kind != releases.RELEASE:
            continue
        release = release_reading.read(source, info.path)
        facts = helm_storage.facts(release)
        if (facts.release, facts.revision) != (info.meta.get("release"), info.meta.get("revision")):
            result.failures.append(f"{info.path} holds {facts.release} revision {facts.revision}")
        result.count("revisions")
        progress.advance(info.size)


def _files(source: SnapshotReader, stored: Stored, place: Path, result: _Found) -> None:
    name = f"{stored.namespace}/{stored.release}"
    release = release_reading.read(source, stored.path)
    values = yaml.safe_load((place / "values.yaml").read_text("utf-8")) or {}
    if values != helm_storage.user_values(release):
        result.failures.append(f"{name}: the values that were written are not those of the release")
    wanted = str(release.get("manifest") or "")
    result.count("objects", len(manifest.names(wanted)))
    if shutil.which("sh"):
        try:
            process.run(["sh", "-n", str(place / release_files.SCRIPT)])
        except errors.ProgramError as error:
            result.failures.append(f"{name}: {release_files.SCRIPT}: {error.message}")
    if not (place / "chart").is_dir():
        result.notes.append(f"{name}: not rendered anew: Helm does not keep the subcharts of {stored.chart}")
        return
    if not shutil.which("helm"):
        result.notes.append(f"{name}: not rendered anew: no program helm is here")
        return
    _render(stored, place, wanted, result)


def _render(stored: Stored, place: Path, wanted: str, result: _Found) -> None:
    name = f"{stored.namespace}/{stored.release}"
    argv = [
        "helm",
        "template",
        stored.release,
        str(place / "chart"),
        "--namespace",
        stored.namespace,
        "--no-hooks",
    ]
    argv += ["--values", str(place / "values.yaml"), *(["--is-upgrade"] if stored.revision > 1 else [])]
    env = {"HELM_CACHE_HOME": str(place), "HELM_CONFIG_HOME": str(place), "HELM_DATA_HOME": str(place)}
    try:
        told = process.run(argv, env=_environment(env), timeout=_RENDER_SECONDS)
    except errors.ProgramError as error:
        result.failures.append(f"{name}: helm does not render it: {error.message}")
        return
    only, differ = manifest.compare(wanted, told.stdout.decode("utf-8", "replace"))
    result.count("rendered")
    shown = [*only, *differ]
    if shown:
        more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        result.notes.append(
            f"{name}: rendered anew without the cluster, {'; '.join(shown[:_SHOWN])}{more} (what the cluster can do, and random values, differ so)"
        )


def _environment(more: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **more}
