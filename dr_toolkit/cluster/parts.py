"""Reading namespace by namespace: what fails in one is told with its name, and the others are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dr_toolkit import errors, log
from dr_toolkit.repository.entries import EntrySink

_log = log.get("cluster")


@dataclass(slots=True)
class Parts:
    """What came of the namespaces.

    Attributes:
        done: namespaces that were read.
        failed: (namespace, why) of the others.
    """

    done: list[str] = field(default_factory=list)
    failed: list[tuple[str, errors.DrctlError]] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """For the header of the snapshot."""
        return [f'namespace "{name}" is NOT whole in it: {error.message}' for name, error in self.failed]


def entry(
    sink: EntrySink, path: str, kind: str, content: bytes | Iterable[bytes], meta: Mapping[str, Any]
) -> None:
    """Write one entry under chunk ids that nobody can confirm a guess with: releases and Secrets are small and guessable."""
    sink.begin(path, kind, cutting="private")
    for piece in [content] if isinstance(content, bytes) else content:
        sink.write(piece)
    sink.end(meta)


def in_order(namespaces: Iterable[str]) -> list[str]:
    """Namespaces as their entries sort."""
    return sorted(namespaces, key=lambda name: f"{name}/".encode())


def each(namespaces: Iterable[str], read: Callable[[str], None]) -> Parts:
    """Read every namespace.

    Args:
        namespaces: in any order.
        read: reads one. Whatever it writes it writes at its end, or goes on writing after its error.

    Raises:
        SourceUnreachable: the API server cannot be worked with; that is no matter of one namespace.
    """
    parts = Parts()
    for name in in_order(namespaces):
        try:
            read(name)
        except errors.SourceError as error:
            _log.error("namespace failed", namespace=name, reason=error.message, hint=error.hint)
            parts.failed.append((name, error))
        else:
            parts.done.append(name)
    if not parts.done and parts.failed:
        raise parts.failed[0][1]
    return parts
