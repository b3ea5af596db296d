"""Where the workload that a rehearsal starts comes from: a chart that is rendered, the recovery point's release, or the live one (ADR 0014)."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dr_toolkit import errors, process
from dr_toolkit.cluster import helm_storage, rehearsal_shape, release_reading, releases
from dr_toolkit.cluster.rehearsal_shape import Shape
from dr_toolkit.config import ApplicationConfig, Config, HelmConfig
from dr_toolkit.jobs import clusters
from dr_toolkit.jobs.rehearsal_target import Chart
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_RENDER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Release:
    """A stored release, and where it was found."""

    content: Mapping[str, Any]
    source: str


def shape_of(
    config: Config,
    repository: Repository,
    name: str,
    application: ApplicationConfig,
    snapshots: Mapping[str, Snapshot],
    chart: Chart | None,
) -> Shape:
    """Console as it would be started.

    Args:
        config: the configuration.
        repository: opened with the ``read`` role.
        name: of the application.
        application: its part of the configuration.
        snapshots: of the recovery point, by component.
        chart: to render; None for the release as it is stored.

    Raises:
        TargetError: there is no such release, or no Console in it.
        ConfigError: a chart is given, and no program ``helm`` is here.
    """
    release = application.release or name
    stored = _of_snapshots(config, repository, application.namespace, release, snapshots)
    stored = stored or _live(config, application.namespace, release)
    if stored is None and chart is None:
        raise errors.TargetError(
            f'no deployed revision of release "{release}" is in namespace "{application.namespace}", neither in the recovery point nor live',
            on=release,
            hint="check platform and its release; or give the chart: --chart DIRECTORY --values FILE",
        )
    if chart is not None:
        text, source = _rendered(chart, stored, release, application.namespace), f"chart {chart.place.name}"
    else:
        assert stored is not None  # noqa: S101  # for the type checker
        text, source = str(stored.content.get("manifest") or ""), stored.source
    found = rehearsal_shape.find(text, application.namespace, source)
    if found is None:
        raise errors.TargetError(
            f'there is no Console in the {source} of release "{release}"',
            on=release,
            hint="a rehearsal needs the Deployment of Conduktor's chart console",
        )
    return found


def _of_snapshots(
    config: Config,
    repository: Repository,
    namespace: str,
    release: str,
    snapshots: Mapping[str, Snapshot],
) -> _Release | None:
    for component, found in snapshots.items():
        if not isinstance(config.components.get(component), HelmConfig):
            continue
        with SnapshotReader(repository, found) as source:
            for one in release_reading.stored(source):
                if (one.namespace, one.release) == (namespace, release) and one.status == "deployed":
                    content = release_reading.read(source, one.path)
                    return _Release(content, f"manifest of revision {one.revision} in snapshot {found.id}")
    return None


def _live(config: Config, namespace: str, release: str) -> _Release | None:
    drivers = {
        driver
        for component in config.components.values()
        if isinstance(component, HelmConfig)
        for driver in component.drivers
    }
    with clusters.opened(config) as cluster:
        for driver in sorted(drivers or {"secrets"}, reverse=True):
            found = releases.live(cluster, namespace, driver, release)
            if found is not None:
                return _Release(found, f"manifest of the live revision {found.get('version')}")
    return None


def _rendered(chart: Chart, stored: _Release | None, release: str, namespace: str) -> str:
    if shutil.which("helm") is None:
        raise errors.ConfigError(
            "no program helm is here, which renders the chart",
            hint="install helm, or leave --chart out: then the release is taken as it is stored, with the new image",
        )
    with tempfile.TemporaryDirectory(prefix="drctl-rehearsal-") as place:
        argv = ["helm", "template", release, str(chart.place), "--namespace", namespace, "--no-hooks"]
        argv += ["--is-upgrade", *_values(Path(place), chart, stored)]
        homes = dict.fromkeys(("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"), place)
        try:
            told = process.run(argv, env={**os.environ, **homes}, timeout=_RENDER_SECONDS)
        except errors.ProgramError as error:
            raise errors.TargetError(
                f'helm does not render the chart "{chart.place}": {error.message}',
                on=str(chart.place),
                hint="try it: helm template RELEASE CHART --values FILE",
            ) from error
    return told.stdout.decode("utf-8", "replace")


def _values(place: Path, chart: Chart, stored: _Release | None) -> Iterator[str]:
    """The release's own values, then those that were given."""
    if stored is not None:
        file = place / "values.yaml"
        file.touch(mode=0o600)
        file.write_text(yaml.safe_dump(helm_storage.user_values(stored.content)), "utf-8")
        yield from ("--values", str(file))
    for given in chart.values:
        yield from ("--values", str(given))
