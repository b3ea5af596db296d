"""What hides secrets when values are shown: names, Secrets of manifests, and the fingerprints of the newest snapshot of Secrets."""

from __future__ import annotations

from collections.abc import Iterable

from dr_toolkit import log
from dr_toolkit.cluster import redaction, secret_facts, secrets_snapshot
from dr_toolkit.cluster.redaction import Redactor
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository

KIND = "secrets"
_log = log.get("jobs.show")


def of(repository: Repository, manifests: Iterable[str]) -> Redactor:
    """A redactor that knows the values of these manifests' Secrets, and recognises those of every Secret that a snapshot knows.

    Args:
        repository: opened with the ``read`` role.
        manifests: of the releases that are shown.
    """
    values: set[str] = set()
    for text in manifests:
        values |= redaction.values_of_secrets(text)
    known = _fingerprints(repository)

    def is_secret(text: str) -> bool:
        data = text.encode("utf-8", "surrogatepass")
        return any(
            len(data) in lengths and secret_facts.fingerprint(data, key) in prints
            for key, prints, lengths in known
        )

    return Redactor(values, is_secret)


def _fingerprints(repository: Repository) -> list[tuple[bytes, frozenset[str], frozenset[int]]]:
    """(key, fingerprints, lengths) of each namespace in the newest snapshot of each component that has Secrets."""
    snapshots, _damaged = repository.snapshots()
    newest = {one.header.component: one for one in snapshots if one.header.kind == KIND}
    found = []
    for one in newest.values():
        with SnapshotReader(repository, one, threads=1) as source:
            for kept in secrets_snapshot.read(source):
                keys = [key for secret in kept.secrets.values() for key in secret["keys"].values()]
                found.append(
                    (
                        kept.key,
                        frozenset(key["fingerprint"] for key in keys),
                        frozenset(key["length"] for key in keys),
                    )
                )
    if not found:
        _log.info("no snapshot of Secrets: values are hidden by their names alone")
    return found
