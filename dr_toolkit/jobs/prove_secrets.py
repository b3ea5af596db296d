"""Verification by restore of Secrets: the metadata is read, kept values are opened against their fingerprints, and presence is asked of the cluster."""

from __future__ import annotations

from typing import Any

import msgspec

from dr_toolkit import clock, errors
from dr_toolkit.cluster import secret_facts, secrets_snapshot
from dr_toolkit.cluster.secrets_snapshot import Kept
from dr_toolkit.config import Config
from dr_toolkit.jobs import clusters
from dr_toolkit.log import Progress
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_SHOWN = 20


def restore_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Read everything, and ask whether the Secrets are there.

    A Secret that is not live is a note and no failure: the snapshot is right about what there was.

    Returns:
        What was checked (counts and seconds), failures, and notes.

    Raises:
        DataError: the snapshot's own objects are damaged.
    """
    began, failures, notes = clock.monotonic(), list[str](), list[str]()
    checks: dict[str, Any] = {"secrets": 0, "values": 0, "present": 0}
    progress.start(None, f"{found.header.component}: reading")
    with SnapshotReader(repository, found) as source:
        kept = list(secrets_snapshot.read(source))
        for one in kept:
            checks["secrets"] += len(one.secrets)
            for name in one.values:
                checks["values"] += 1
                failures += _values(one, name, b"".join(source.read(f"{one.namespace}/values/{name}")))
    expected = found.header.source.get("secrets")
    if checks["secrets"] != expected:
        failures.append(f"{expected} Secrets were read from the cluster and {checks['secrets']} are here")
    try:
        checks["present"], absent = _present(config, kept)
        notes += absent
    except (errors.SourceError, errors.Unreachable, errors.ConfigError) as error:
        notes.append(f"the cluster was not asked which Secrets are there: {error.message}")
    checks["seconds"] = {"all": round(clock.monotonic() - began, 3)}
    return checks, failures, notes


def _values(kept: Kept, name: str, content: bytes) -> list[str]:
    """Kept values are those that were read when their fingerprints were taken."""
    known = kept.secrets.get(name, {}).get("keys", {})
    return [
        f'the value "{key}" of Secret "{kept.namespace}/{name}" is not the one that was fingerprinted'
        for key, value in msgspec.json.decode(content)["data"].items()
        if known.get(key, {}).get("fingerprint")
        != secret_facts.fingerprint(secret_facts.decoded(value), kept.key)
    ]


def _present(config: Config, kept: list[Kept]) -> tuple[int, list[str]]:
    """How many are live, and sentences about the others; by metadata alone."""
    present, absent = 0, []
    with clusters.opened(config) as cluster:
        for one in kept:
            live = secrets_snapshot.names(cluster, one.namespace)
            present += len(set(one.secrets) & set(live))
            absent += [
                f'Secret "{one.namespace}/{name}" is not live'
                for name in sorted(set(one.secrets) - set(live))
            ]
    more = [f"and {len(absent) - _SHOWN} more are not live"] if len(absent) > _SHOWN else []
    return present, [*absent[:_SHOWN], *more]
