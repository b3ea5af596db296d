"""Make a repository and its first epoch; find out what the storage keeps."""

from __future__ import annotations

from dataclasses import dataclass

from dr_toolkit import errors
from dr_toolkit.config import Config
from dr_toolkit.jobs import opening
from dr_toolkit.jobs.recipients import open_recipients
from dr_toolkit.repository import repository

DEFAULT_GRACE_SECONDS = 7 * 24 * 3600
_TRIAL = 32
"""Bytes of a secret that means nothing."""


@dataclass(frozen=True, slots=True)
class Made:
    """A new repository.

    Attributes:
        repository_id: hex.
        where: the storage.
        trust: the line for ``repository.trust``.
        create_only: whether the storage itself refuses to create a name twice.
        recipients: (name, kind, role).
        warnings: what to think about.
    """

    repository_id: str
    where: str
    trust: str
    create_only: bool
    recipients: tuple[tuple[str, str, str], ...]
    warnings: tuple[str, ...]


def run(config: Config, grace_seconds: int = DEFAULT_GRACE_SECONDS) -> Made:
    """Make the repository.

    Raises:
        UsageError: there is one already.
        ConfigError: the recipients could never restore, or never back up.
    """
    recipients = open_recipients(config)
    roles = {recipient.role for recipient in recipients}
    if not roles & {"read", "both"}:
        raise errors.ConfigError(
            'no recipient has the role "read": nothing could ever be restored',
            hint='add one under "keys" with role: read, or without a role',
        )
    for recipient in recipients:
        # A recipient that cannot wrap leaves no directory behind, nor objects of a trial.
        recipient.wrap(bytes(_TRIAL), b"drctl init: trial")
    store = opening.store_of(config, create=True)
    try:
        create_only = store.probe_create_only()
        made = repository.initialise(store, recipients, grace_seconds)
        where = store.describe()
    finally:
        store.close()
    rows = tuple((r.name, r.kind, r.role) for r in recipients)
    identity = made.keys.identity
    return Made(
        identity.repository_id.hex(),
        where,
        identity.trust,
        create_only,
        rows,
        tuple(_warnings(rows, create_only=create_only)),
    )


def _warnings(recipients: tuple[tuple[str, str, str], ...], *, create_only: bool) -> list[str]:
    warnings = []
    if not create_only:
        warnings.append(
            "the storage does not refuse to create an object twice; random names keep the data safe, an overwrite by somebody else would not be refused"
        )
    if len({kind for _name, kind, _role in recipients}) < 2:  # noqa: PLR2004
        warnings.append(
            "all recipients are of one kind: when it is lost, every backup is lost with it; add another kind"
        )
    if all(role == "both" for _name, _kind, role in recipients):
        warnings.append(
            'no recipient has the role "write" alone: whoever steals the backup job\'s key can read every backup'
        )
    return warnings
