"""Verification by restore in a Kubernetes namespace that is made for it: no data comes to this machine, and nothing of it stays there.

A Job runs drctl, for a dump with PostgreSQL beside it, and stores signed evidence. That evidence is the answer: it is read from the
repository, where its signature is checked, and not from a log.
"""

from __future__ import annotations

import getpass
import secrets
import socket
from datetime import timedelta
from typing import Any

import msgspec

from dr_toolkit import clock, errors, log
from dr_toolkit.cluster import quantities, scratch_namespace, scratch_objects
from dr_toolkit.cluster.client import Cluster
from dr_toolkit.cluster.scratch_namespace import ScratchNamespace
from dr_toolkit.cluster.scratch_objects import Order
from dr_toolkit.cluster.scratch_state import State
from dr_toolkit.config import Config, ScratchNamespaceConfig
from dr_toolkit.jobs import scratch_config
from dr_toolkit.log import Progress
from dr_toolkit.postgres import scratch
from dr_toolkit.postgres.sample import Sample
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

_log = log.get("jobs.verify")

MARK = "scratch"
"""In the evidence's counts: which scratch place it comes from."""
_MARGIN = timedelta(hours=1)
_ROOM = 5 << 30
_SAID = 15


def restore_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Restore a snapshot in a scratch namespace and compare it there.

    Returns:
        What was checked, failures, and harmless notes: those of the evidence that the Job stored and signed.

    Raises:
        TargetError: it could not be tried there; the reason is in the message. That says nothing about the snapshot.
        ConfigError: the configuration does not say what to run.
    """
    return _check(config, repository, found, progress, ())


def sample_check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress, sample: Sample
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The same with a part of the rows.

    Raises:
        TargetError: it could not be tried there.
    """
    options = [word for pattern in sample.tables for word in ("--tables", pattern)]
    if sample.schema_only:
        options.append("--schema-only")
    if sample.seconds is not None:
        options += ["--budget", f"{max(1, int(sample.seconds))}s"]
    return _check(config, repository, found, progress, tuple(options))


def _check(
    config: Config, repository: Repository, found: Snapshot, progress: Progress, options: tuple[str, ...]
) -> tuple[dict[str, Any], list[str], list[str]]:
    wanted = configured(config)
    with Cluster(config.cluster) as cluster:
        clean(cluster)
        order = order_of(config, wanted, found, options)
        _log.info("scratch namespace", namespace=order.namespace, snapshot=found.id)
        with ScratchNamespace(cluster, order) as place:
            state = place.wait(
                wanted.start_timeout.total_seconds(),
                lambda text: progress.start(None, f"{found.header.component}: {text}"),
            )
            lines = place.log()
    return answer(repository, found, order, state, lines)


def configured(config: Config) -> ScratchNamespaceConfig:
    """What runs in a scratch namespace.

    Raises:
        ConfigError: nobody says.
    """
    if config.verify.namespace is None:
        raise errors.ConfigError(
            "verify.namespace is missing: it says which images run in a scratch namespace",
            hint="drctl config example shows it",
        )
    return config.verify.namespace


def clean(cluster: Cluster) -> None:
    """Remove what killed runs left, as far as we may: it must not keep a proof from being made."""
    try:
        scratch_namespace.collect(cluster)
    except errors.DrctlError as error:
        _log.info("leftovers were not looked for", reason=error.message)


def order_of(
    config: Config, wanted: ScratchNamespaceConfig, found: Snapshot, options: tuple[str, ...]
) -> Order:
    """What goes into the namespace of a proof.

    Args:
        config: the whole configuration.
        wanted: its part about scratch namespaces.
        found: the snapshot.
        options: more words for ``drctl verify --restore``.

    Raises:
        ConfigError: something of it cannot be reached from a Pod, or no image of the right version is named.
    """
    header = found.header
    sidecar = header.kind == "postgres-dump"
    parcel = scratch_config.parcel(
        config, header.component, directory=scratch_objects.SECRET_DIRECTORY, sidecar=sidecar
    )
    if sidecar:
        parcel.environment[scratch_objects.PASSWORD] = secrets.token_urlsafe(24)
    arguments = (
        "verify",
        header.component,
        "--restore",
        *options,
        "--snapshot",
        found.id,
        "--log-format",
        "json",
    )
    return Order(
        id=secrets.token_hex(5),
        owner=_owner(),
        expires=clock.now() + wanted.timeout + _MARGIN,
        image=wanted.image,
        arguments=arguments,
        environment=parcel.environment,
        files=parcel.files,
        database_image=_database_image(wanted, found) if sidecar else None,
        database_settings=scratch.SETTINGS | {"unix_socket_permissions": "0777"},
        user=wanted.user,
        database_user=wanted.postgres_user,
        size=_size(wanted, found),
        storage_class=wanted.storage_class,
        cpu=wanted.cpu,
        memory=wanted.memory,
        quota=wanted.quota,
        timeout=int(wanted.timeout.total_seconds()),
        ports=tuple(parcel.ports),
    )


def _database_image(wanted: ScratchNamespaceConfig, found: Snapshot) -> str:
    major = str(int(found.header.source.get("server_version", 0)) // 10000)
    if major not in wanted.postgres:
        known = ", ".join(sorted(wanted.postgres)) or "none"
        raise errors.ConfigError(
            f"verify.namespace.postgres names no image for PostgreSQL {major}, which the snapshot is of (there are: {known})",
            hint=f'add under verify.namespace.postgres: "{major}": postgres@sha256:…',
        )
    return wanted.postgres[major]


def _size(wanted: ScratchNamespaceConfig, found: Snapshot) -> int:
    if wanted.size is not None:
        return int(quantities.number(wanted.size))
    source = found.header.source.get("database_bytes")
    return int(1.5 * max(int(source or 0), found.header.bytes_source)) + _ROOM


def _owner() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return socket.gethostname()


def answer(
    repository: Repository, found: Snapshot, order: Order, state: State, lines: dict[str, list[str]]
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The answer of a run that is over: what its evidence says.

    Args:
        repository: opened with the ``read`` role.
        found: the snapshot.
        order: what was in the namespace.
        state: how it ended there.
        lines: of its logs.

    Returns:
        As `restore_check`.

    Raises:
        TargetError: there is no evidence, and the reason is in the message.
    """
    evidence = _evidence(repository, found, order.id) if state.stage == "done" else None
    level = _log.debug if evidence is not None and evidence.get("result") == "passed" else _log.warning
    for container, said in lines.items():
        for line in said[-_SAID:]:
            level("scratch log", container=container, line=line)
    if evidence is None:
        raise _not_tried(order, state, lines)
    checks = dict(evidence.get("checks") or {})
    failures = [str(one) for one in evidence.get("failures") or []]
    if evidence.get("result") != "passed" and not failures:
        failures = ["the evidence of the scratch namespace says that it failed, without a reason"]
    notes = [str(checks["statement"])] if "statement" in checks else []
    return checks, failures, notes


def _evidence(repository: Repository, found: Snapshot, mark: str) -> dict[str, Any] | None:
    """What the Job of this run stored about this snapshot, its signature checked."""
    rows, _damaged = repository.evidence()
    for row in reversed(rows):
        result = row.result
        if (result.get("checks") or {}).get(MARK) == mark and result.get("snapshot") == found.id:
            return result if result.get("digest") == found.digest_text else None
    return None


def _not_tried(order: Order, state: State, lines: dict[str, list[str]]) -> errors.TargetError:
    if state.stage == "no":
        reason, hint = state.reason, state.hint
    else:
        said = _last_error(lines.get(scratch_objects.NAME, []))
        reason = f"drctl ended there with exit code {state.code} and stored no evidence{said}"
        hint = "look at its log above; see: drctl verify --help for the codes"
    return errors.TargetError(
        f"not proved in the scratch namespace: {log.masked(reason)}",
        on=order.namespace,
        hint=hint or "run it again with -v, which shows what was written there",
        unaffected="the namespace was deleted; the snapshot was not judged",
    )


def _last_error(lines: list[str]) -> str:
    """The last sentence of the log, without its JSON."""
    for line in reversed(lines):
        try:
            event = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(event, dict) and event.get("level") in {"error", "critical"}:
            return f": {event.get('event')}"
    return ""
