"""What hides secrets when values are shown: names, Secrets of manifests, and the fingerprints of the newest snapshot of Secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dr_toolkit import log
from dr_toolkit.cluster import redaction, secret_facts, secrets_snapshot
from dr_toolkit.cluster.redaction import Redactor
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.repository import Repository

KIND = "secrets"
_log = log.get("jobs.show")


@dataclass(frozen=True, slots=True)
class Known:
    """Every Secret's value that a snapshot knows, by fingerprint.

    Attributes:
        namespaces: of each its key, and fingerprints and lengths of its values.
    """

    namespaces: tuple[tuple[bytes, frozenset[str], frozenset[int]], ...]


def of(known: Known, manifests: Iterable[str]) -> Redactor:
    """A redactor that knows the values of these manifests' Secrets, and recognises those of every Secret that a snapshot knows.

    Args:
        known: what the snapshots of Secrets know.
        manifests: of the releases that are shown.
    """
    values: set[str] = set()
    for text in manifests:
        values |= redaction.values_of_secrets(text)

    def is_secret(text: str) -> bool:
        data = text.encode("utf-8", "surrogatepass")
        return any(
            len(data) in lengths and secret_facts.fingerprint(data, key) in prints
            for key, prints, lengths in known.namespaces
        )

    return Redactor(values, is_secret)


def known(repository: Repository) -> Known:
    """What the newest snapshot of each component that has Secrets knows of them; read once for many releases.

    Args:
        repository: opened with the ``read`` role.
    """
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
    return Known(tuple(found))
