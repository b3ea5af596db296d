"""From the configuration to an open connection to the Kubernetes API, and what its kinds have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dr_toolkit import errors
from dr_toolkit.cluster.parts import Parts
from dr_toolkit.config import Config

if TYPE_CHECKING:
    from dr_toolkit.cluster.client import Cluster


@contextmanager
def opened(config: Config) -> Iterator[Cluster]:
    """The configured API server. Its library is imported here, by the commands that need it."""
    from dr_toolkit.cluster.client import Cluster  # noqa: PLC0415 - the library takes a second to import

    with Cluster(config.cluster) as cluster:
        yield cluster


def place(what: str, namespaces: Sequence[str], cluster: Cluster) -> str:
    """Where something is read from, in words."""
    return f"{what} of {', '.join(namespaces)} at {cluster.server}"


def check_whole(component: str, snapshot: str, parts: Parts) -> None:
    """A snapshot that lacks a namespace was taken, and the run failed all the same.

    Raises:
        SourceError: a namespace failed.
    """
    if not parts.failed:
        return
    names = ", ".join(f'"{name}"' for name, _error in parts.failed)
    first = parts.failed[0][1]
    raise errors.SourceError(
        f'snapshot "{snapshot}" of "{component}" was taken, but not whole: namespace {names} failed: {first.message}',
        on=parts.failed[0][0],
        hint=first.hint,
        unaffected=f"the snapshot has the other namespaces ({', '.join(parts.done)}); earlier snapshots are as they were",
    )
