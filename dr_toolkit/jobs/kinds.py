"""The table of kinds: which module does what for which kind of component.

A new kind is a row here, a model in the configuration, and files of its own. Modules are imported when they are asked for, so that a
command pays only for the libraries of the kinds it touches.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from dr_toolkit import errors

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dr_toolkit.config import ComponentConfig, Config
    from dr_toolkit.jobs.gate import Check, Question
    from dr_toolkit.jobs.request import Request
    from dr_toolkit.log import Progress
    from dr_toolkit.postgres.sample import Sample
    from dr_toolkit.repository.repository import Repository
    from dr_toolkit.repository.snapshot import Snapshot

_JOBS = "dr_toolkit.jobs"


@dataclass(frozen=True, slots=True)
class Source:
    """What a backup would read.

    Attributes:
        place: where from, without secrets.
        bytes: roughly how much; None where the role may not know.
        programs: directory of the programs that it would use; empty for none.
    """

    place: str
    bytes: int | None
    programs: str = ""


class Backup(Protocol):
    """Takes snapshots of one kind."""

    def look(self, config: Config, component: ComponentConfig) -> Source:
        """What would be read; changes nothing."""

    def take(
        self,
        config: Config,
        repository: Repository,
        name: str,
        component: ComponentConfig,
        *,
        full: bool,
        progress: Progress,
    ) -> Snapshot:
        """Read the source and commit a snapshot."""


class Foresight(Protocol):
    """What some kinds can say of a run beforehand."""

    def foresee(
        self, config: Config, repository: Repository, name: str, component: ComponentConfig
    ) -> list[str]:
        """Sentences for people; changes nothing."""


class Audit(Protocol):
    """What kinds can do whose snapshots are held against the source now and then."""

    def take(
        self,
        config: Config,
        repository: Repository,
        name: str,
        component: ComponentConfig,
        *,
        full: bool,
        progress: Progress,
        audit: bool = False,
    ) -> Snapshot:
        """Like ``Backup.take``; ``audit`` holds the source against the snapshots before."""

    def objection(self, made: Snapshot) -> errors.DrctlError | None:
        """What the audit that came with a snapshot says against those before it."""


class Proof(Protocol):
    """Verifies snapshots of one kind by a restore into scratch."""

    def restore_check(
        self, config: Config, repository: Repository, found: Snapshot, progress: Progress
    ) -> tuple[dict[str, Any], list[str], list[str]]:
        """What was checked (counts and seconds), failures, and harmless notes."""


class Sampling(Protocol):
    """Proves a part of a snapshot, where the whole is too large to restore every time."""

    def sample_check(
        self, config: Config, repository: Repository, found: Snapshot, progress: Progress, sample: Sample
    ) -> tuple[dict[str, Any], list[str], list[str]]:
        """As a proof; the counts say what was looked at and what was not."""


class Restore(Protocol):
    """Brings a component of one kind back. What is prepared and done is the kind's own; the reporting layer knows it."""

    def prepare(self, config: Config, repository: Repository, request: Request) -> Any:
        """Plan; changes nothing."""

    def run(
        self,
        config: Config,
        repository: Repository,
        prepared: Any,
        progress: Progress,
        *,
        end_sessions: bool,
    ) -> Any:
        """Carry the plan out."""


class Ready(Protocol):
    """Something that was restored beside what is live, and compared."""

    def finish(self, *, end_sessions: bool) -> Any:
        """Let it take the place of what is live; what is returned is as of ``Restore.run``."""


class Beside(Protocol):
    """What kinds can do that restore beside what is live: everything but the last step."""

    def aside(
        self, config: Config, repository: Repository, prepared: Any, progress: Progress
    ) -> AbstractContextManager[Ready]:
        """Restore and compare; leaving the block without ``finish`` leaves nothing."""


class Gate(Protocol):
    """Looks at what beside the data decides about an upgrade."""

    def facts(self, config: Config, name: str, component: ComponentConfig, question: Question) -> list[Check]:
        """What was looked at; changes nothing. An error that is raised becomes a check that could not be made."""


@dataclass(frozen=True, slots=True)
class _Modules:
    backup: str
    proof: str
    restore: str
    gate: str = ""


_TABLE = {
    "postgres-dump": _Modules("dump_backup", "prove_restore", "restore", "postgres_gate"),
    "postgres-base": _Modules("base_backup", "prove_base", "base_restore", "postgres_gate"),
    "bucket": _Modules("bucket_backup", "prove_bucket", "bucket_restore"),
    "bucket-replica": _Modules("bucket_backup", "prove_replica", "bucket_restore"),
    "secrets": _Modules("secrets_backup", "prove_secrets", "secrets_restore"),
    "helm": _Modules("helm_backup", "prove_helm", "helm_restore", "helm_gate"),
}


_IN_NAMESPACE = frozenset({"postgres-dump", "postgres-base", "bucket", "bucket-replica"})
"""What is worth a namespace. Others are small, and are proved on this machine."""


def known() -> tuple[str, ...]:
    """Every kind, in the order in which a whole platform is restored."""
    return tuple(_TABLE)


def backup_of(kind: str) -> Backup:
    """Who takes snapshots of this kind."""
    return cast("Backup", _module(_row(kind).backup))


def foresight_of(kind: str) -> Foresight | None:
    """Who can say more of a run beforehand than its source's size; None where nobody can."""
    found = _module(_row(kind).backup)
    return cast("Foresight", found) if hasattr(found, "foresee") else None


def audit_of(kind: str) -> Audit | None:
    """Who audits snapshots of this kind; None where nobody can."""
    found = _module(_row(kind).backup)
    return cast("Audit", found) if hasattr(found, "objection") else None


def in_namespace(kind: str, place: str) -> bool:
    """Whether snapshots of this kind are proved in a namespace when scratch is there."""
    return place == "namespace" and kind in _IN_NAMESPACE


def proof_of(kind: str, place: str = "local") -> Proof:
    """Who proves snapshots of this kind; ``place`` is the configuration's ``verify.scratch``."""
    row = _row(kind)
    return cast("Proof", _module("prove_in_namespace" if in_namespace(kind, place) else row.proof))


def sampling_of(kind: str, place: str = "local") -> Sampling:
    """Who proves a part of a snapshot of this kind.

    Raises:
        UsageError: only the whole of it can be restored.
    """
    found = _module(_row(kind).proof)
    if not hasattr(found, "sample_check"):
        raise errors.UsageError(
            f'of a "{kind}" no part can be restored alone',
            hint="name the components of kind postgres-dump; of others take: drctl verify NAME --data=10",
            unaffected="nothing was started",
        )
    return cast("Sampling", _module("prove_in_namespace") if in_namespace(kind, place) else found)


def restore_of(kind: str) -> Restore:
    """Who restores this kind."""
    return cast("Restore", _module(_row(kind).restore))


def beside_of(kind: str) -> Beside | None:
    """Who restores this kind beside what is live, and lets it take its place later; None where nobody does."""
    found = _module(_row(kind).restore)
    return cast("Beside", found) if hasattr(found, "aside") else None


def gate_of(kind: str) -> Gate | None:
    """Who looks at this kind before an upgrade; None when there is nothing but its data."""
    name = _row(kind).gate
    return cast("Gate", _module(name)) if name else None


def _module(name: str) -> object:
    return importlib.import_module(f"{_JOBS}.{name}")


def _row(kind: str) -> _Modules:
    if kind not in _TABLE:
        raise errors.UsageError(
            f'snapshots of kind "{kind}" are not known to this version',
            on=kind,
            hint="use the version of drctl that took them, or a newer one",
            unaffected="nothing was started",
        )
    return _TABLE[kind]
