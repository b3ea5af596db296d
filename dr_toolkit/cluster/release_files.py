"""What a release becomes when it is brought back: files, and the line that installs it. Pure but for `write`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from dr_toolkit import errors
from dr_toolkit.cluster import helm_storage, yaml_text
from dr_toolkit.cluster.helm_storage import Facts

_CONDUKTOR = "https://helm.conduktor.io"
KNOWN_REPOSITORIES = {
    "console": _CONDUKTOR,
    "conduktor-gateway": _CONDUKTOR,
    "provisioner": _CONDUKTOR,
}
"""Where charts of the platform come from: Helm does not keep that."""
SCRIPT = "restore.sh"
_LONGEST_PART, _LONGEST_PATH = 255, 2000
"""Bytes of a file's name and of its path below the chart."""
_PRIVATE, _PROGRAM, _DIRECTORY = 0o600, 0o700, 0o700


@dataclass(frozen=True, slots=True)
class Way:
    """How a release is installed again.

    Attributes:
        line: the command, for a shell, in the directory of the files.
        source: ``repository``, ``rebuilt`` (from the release itself) or ``unknown`` (the chart has to be named).
    """

    line: str
    source: str


def way_back(release: Mapping[str, Any], driver: str, repositories: Mapping[str, str]) -> Way:
    """The exact line that installs a release again.

    Args:
        release: as Helm keeps it.
        driver: where Helm keeps it.
        repositories: by name of chart, before those that are known.
    """
    facts = helm_storage.facts(release)
    repository = repositories.get(facts.chart) or KNOWN_REPOSITORIES.get(facts.chart)
    words = ["helm", "upgrade", "--install", facts.release]
    if repository:
        source = "repository"
        words += [facts.chart, "--repo", repository, "--version", facts.chart_version]
    elif rebuilt(release):
        source = "rebuilt"
        words.append("./chart")
    else:
        source = "unknown"
    after = ["--namespace", facts.namespace, "--create-namespace", "--values", "values.yaml"]
    line = shlex.join(words)
    if source == "unknown":
        line += f' "$CHART" --version {shlex.quote(facts.chart_version)}'
    line += f" {shlex.join(after)}"
    return Way(f"HELM_DRIVER=configmap {line}" if driver == "configmaps" else line, source)


def files(
    release: Mapping[str, Any],
    *,
    driver: str,
    repositories: Mapping[str, str],
    origin: str,
    images: Sequence[Mapping[str, Any]] = (),
) -> dict[str, bytes]:
    """The files of one release, by path.

    Args:
        release: as Helm keeps it.
        driver: where Helm keeps it.
        repositories: by name of chart, before those that are known.
        origin: the snapshot and its time, for the script's comment.
        images: workloads as they ran.
    """
    facts, way = helm_storage.facts(release), way_back(release, driver, repositories)
    texts = {
        "values.yaml": yaml_text.dump(helm_storage.user_values(release)),
        "computed-values.yaml": yaml_text.dump(helm_storage.computed_values(release)),
        "chart.yaml": yaml_text.dump(_chart_facts(release, facts, repositories, images)),
        "manifest.yaml": str(release.get("manifest") or ""),
        "hooks.yaml": _hooks(release),
        "notes.txt": str((release.get("info") or {}).get("notes") or ""),
        "release.json": msgspec.json.encode(release).decode(),
        SCRIPT: _script(facts, way, origin),
    }
    made = {name: text.encode() for name, text in texts.items() if text}
    made |= {f"chart/{name}": content for name, content in rebuilt(release).items()}
    return made


def rebuilt(release: Mapping[str, Any]) -> dict[str, bytes]:
    """The chart's files, from the release itself; nothing where the chart has subcharts, which Helm does not keep, or names that are no files' names."""
    chart = release.get("chart") or {}
    metadata = chart.get("metadata") or {}
    if metadata.get("dependencies") or not metadata.get("name"):
        return {}
    made = {
        "Chart.yaml": yaml_text.dump(metadata).encode(),
        "values.yaml": yaml_text.dump(chart.get("values") or {}).encode(),
    }
    if chart.get("schema"):
        made["values.schema.json"] = _decoded(chart["schema"])
    for one in [*(chart.get("templates") or []), *(chart.get("files") or [])]:
        name = PurePosixPath(str(one.get("name") or ""))
        if not _a_file(name):
            return {}
        made.setdefault(str(name), _decoded(one.get("data")))
    directories = {str(parent) for name in made for parent in PurePosixPath(name).parents}
    return {} if directories & set(made) else made


def _a_file(name: PurePosixPath) -> bool:
    """Whether a chart's file can be written below a directory under its name."""
    return (
        bool(name.parts)
        and not name.is_absolute()
        and ".." not in name.parts
        and "\0" not in str(name)
        and all(len(part.encode()) <= _LONGEST_PART for part in name.parts)
        and len(str(name).encode()) <= _LONGEST_PATH
    )


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(str(value or ""))
    except (binascii.Error, ValueError):
        return b""


def _chart_facts(
    release: Mapping[str, Any],
    facts: Facts,
    repositories: Mapping[str, str],
    images: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    chart = release.get("chart") or {}
    templates = sorted((str(one.get("name")), str(one.get("data"))) for one in chart.get("templates") or [])
    return {
        "release": facts.release,
        "namespace": facts.namespace,
        "revision": facts.revision,
        "status": facts.status,
        "chart": {
            "name": facts.chart,
            "version": facts.chart_version,
            "appVersion": facts.app_version,
            "repository": repositories.get(facts.chart)
            or KNOWN_REPOSITORIES.get(facts.chart)
            or "unknown: Helm does not keep it",
            "dependencies": (chart.get("metadata") or {}).get("dependencies") or [],
            "lock": chart.get("lock") or {},
            "templatesDigest": "sha256:" + hashlib.sha256(msgspec.json.encode(templates)).hexdigest(),
        },
        "deployed": facts.deployed,
        "workloads": list(images),
    }


def _hooks(release: Mapping[str, Any]) -> str:
    hooks = [one for one in release.get("hooks") or [] if isinstance(one, Mapping)]
    return "".join(f"---\n{str(one.get('manifest') or '').strip()}\n" for one in hooks)


def _script(facts: Facts, way: Way, origin: str) -> str:
    lines = [
        "#!/bin/sh",
        f"# {_one_line(origin)}",
        f"# release {_one_line(facts.release)}, revision {facts.revision}, chart {_one_line(facts.chart)} {_one_line(facts.chart_version)}",
        "# Before it: the Secrets (drctl restore secrets), then the databases. More options of helm can be given: --dry-run, --wait.",
        "set -eu",
        'cd "$(dirname "$0")"',
    ]
    if way.source == "unknown":
        lines.append(': "${CHART:?name the chart: CHART=oci://registry/chart, a directory or an archive}"')
    return "\n".join([*lines, f'{way.line} "$@"', ""])


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def write(place: Path, made: Mapping[str, bytes]) -> None:
    """Write files for their owner alone: values hold secrets.

    Raises:
        TargetError: one cannot be written.
    """
    for name, content in made.items():
        path = place / name
        try:
            path.parent.mkdir(mode=_DIRECTORY, parents=True, exist_ok=True)
            path.touch(mode=_PROGRAM if name == SCRIPT else _PRIVATE, exist_ok=False)
            path.write_bytes(content)
        except OSError as error:
            raise errors.TargetError(
                f'"{path}" cannot be written: {error.strerror}', on=str(path), hint="name a new directory"
            ) from error
