"""What ``drctl doctor`` found: one thing that was looked at, why it matters, and what to do. And the checks that need nothing but the configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dr_toolkit import errors
from dr_toolkit.config import Config, KeyConfig, KeyFileConfig
from dr_toolkit.words import counted

Level = Literal["failed", "warning", "note", "ok"]
LEVELS: tuple[Level, ...] = ("failed", "warning", "note", "ok")
"""The worst first."""

SKEW_SECONDS = 60.0
"""Clocks that differ by more than this make times in lists and alarms wrong; by 15 minutes, signatures of requests as well."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``failed`` (it does not work, or is lost in a disaster), ``warning``, ``note`` or ``ok``.
        area: ``configuration``, ``keys``, ``repository``, ``source``, ``cluster``, ``platform``.
        what: what was found.
        why: why that matters; empty for ``ok``.
        todo: what to do; empty for ``ok``.
        on: the component, key, namespace or object.
        rule: the missing RBAC rule, as a line of YAML.
    """

    level: Level
    area: str
    what: str
    why: str = ""
    todo: str = ""
    on: str = ""
    rule: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """1 when something failed; warnings alone are 0."""
    return 1 if any(one.level == "failed" for one in findings) else 0


def of_error(area: str, on: str, error: errors.DrctlError, why: str) -> Finding:
    """What could not be done."""
    rule = str(getattr(error, "rule", ""))
    return Finding("failed", area, error.message, why, error.hint or "see the message", on, rule)


def of_configuration(config: Config) -> Iterator[Finding]:
    """What the configuration alone says: trust, roles, kinds of recipients."""
    yield Finding(
        "ok",
        "configuration",
        f"{counted(len(config.components), 'component')}, {counted(len(config.keys), 'recipient')}",
    )
    if config.repository.trust is None:
        yield Finding(
            "warning",
            "repository",
            "repository.trust is not set",
            "the repository's own word is taken for its keys: who can write to the storage can exchange them, and later backups are sealed to a thief",
            "put the line that drctl init printed under repository",
        )
    else:
        yield Finding("ok", "repository", "the repository's keys are pinned by repository.trust")
    yield from of_roles(config.keys)
    directory = config.repository.directory
    if directory is not None:
        yield from _key_files_inside(config, str(directory))
        yield Finding(
            "note",
            "repository",
            "the repository is a directory",
            "nothing holds who can write there from deleting it, and a fire takes it with the machine",
            "keep a copy elsewhere, or use a bucket with Object Lock",
        )


def of_roles(keys: dict[str, KeyConfig]) -> Iterator[Finding]:
    """Who can read, who can only write, and whether one loss takes everything."""
    both = [name for name, key in keys.items() if key.role is None]
    for name in both:
        yield Finding(
            "warning",
            "keys",
            f'the recipient "{name}" has no role, so it has both',
            "a backup job that holds it can open every snapshot: its theft is the theft of all content",
            'give it role: read, and the backup job another one with role: write; then "drctl init" of a new repository, or a rotation of its recipients',
            name,
        )
    types = sorted({key.type for key in keys.values() if key.role != "write"})
    if not types:
        yield Finding(
            "note",
            "keys",
            "no recipient here can read",
            "this configuration backs up, and cannot restore or verify: right for a backup job",
            "keep the configuration with the role read where restores run",
        )
    elif len(types) == 1:
        yield Finding(
            "warning",
            "keys",
            f"every recipient that can read is of type {types[0]}",
            "what takes one of them away takes all: then nobody can read any snapshot",
            "add a recipient of another type whose key lies elsewhere",
        )
    else:
        yield Finding("ok", "keys", f"recipients of {len(types)} types can read: {', '.join(types)}")
    if not both and all(key.role == "read" for key in keys.values()):
        yield Finding(
            "note",
            "keys",
            "no recipient here has the role write",
            "a recipient with the role read can back up as well, and a backup job should not hold it",
            "give the backup job a configuration with the role write",
        )


def _key_files_inside(config: Config, place: str) -> Iterator[Finding]:
    for name, key in config.keys.items():
        if isinstance(key, KeyFileConfig) and f"{key.path}/".startswith(f"{place.rstrip('/')}/"):
            yield Finding(
                "failed",
                "keys",
                f'the key file "{key.path}" lies in the repository',
                "who gets a copy of the repository has its key as well, and a lost directory takes both",
                "move the key file to another place, on another disk",
                name,
            )


def of_clock(area: str, whose: str, theirs: datetime | None, ours: datetime) -> Finding:
    """How far two clocks are apart."""
    if theirs is None:
        return Finding("note", area, f"{whose} does not tell its time", "clocks were not compared", "nothing")
    apart = abs((theirs - ours).total_seconds())
    if apart <= SKEW_SECONDS:
        return Finding("ok", area, f"the clock of {whose} and this machine's agree")
    return Finding(
        "warning",
        area,
        f"the clock of {whose} and this machine's are {apart:.0f} s apart",
        "ages in lists and alarms are wrong by so much; beyond 15 minutes S3 servers refuse requests and tokens expire early",
        "switch time synchronisation on, on both",
    )


def of_lock(where: str, *, versioning: bool | None, mode: str, days: float) -> Finding:
    """Whether the repository's objects are safe from who holds the backup's credentials.

    Args:
        where: the bucket.
        versioning: whether it keeps versions; None when the server does not say.
        mode: of the default retention; empty for none.
        days: of the default retention.
    """
    if mode and days > 0:
        level: Level = "ok" if mode == "COMPLIANCE" else "note"
        what = f"{where} locks every object at birth ({mode}, {days:g} {'day' if days == 1 else 'days'})"
        if level == "ok":
            return Finding(level, "repository", what)
        return Finding(
            level,
            "repository",
            what,
            "GOVERNANCE can be bypassed by who has s3:BypassGovernanceRetention",
            "give that right to nobody, or use COMPLIANCE",
        )
    known = {True: "keeps versions, but has no default retention", False: "keeps no versions"}
    what = (
        f"{where} {known[versioning]}"
        if versioning is not None
        else f"{where} does not say whether it locks objects"
    )
    return Finding(
        "warning",
        "repository",
        f"{what}: Object Lock is off",
        "who steals credentials that may delete can delete every snapshot",
        "use a bucket that was made with Object Lock, with a default retention (COMPLIANCE); and give the backup's credentials no right to delete",
    )


def of_no_write(error: errors.DrctlError, *, backs_up: bool) -> Finding:
    """A storage that takes no write. Where nothing is backed up, a copy that can be read is good enough."""
    return Finding(
        "failed" if backs_up else "warning",
        "repository",
        f"the storage does not take a write, or does not tell its time: {error.message}",
        "a backup needs both; restores do not",
        error.hint or "check the permissions (docs/permissions.md)",
    )


def of_stock(damaged: Sequence[str], missing: Sequence[str], count: int) -> Finding:
    """What is stored."""
    if not damaged and not missing:
        return Finding("ok", "repository", f"{counted(count, 'snapshot')}, none damaged or missing")
    shown = [*missing, *damaged][:5]
    return Finding(
        "failed",
        "repository",
        f"{counted(len(damaged), 'object is', 'objects are')} damaged and {counted(len(missing), 'snapshot is', 'snapshots are')} missing: {'; '.join(shown)}",
        "a restore of those fails, and somebody or something removed or changed them",
        "see: drctl snapshots; find out who did it, and take new snapshots",
    )
