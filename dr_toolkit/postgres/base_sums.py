"""CRC-32C of files whose checksum the server's manifest does not know, because they were put together from its increments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import google_crc32c

from dr_toolkit.postgres import base_manifest
from dr_toolkit.postgres.base_overlay import LABEL


class Checksums:
    """What `pg_verifybackup` must know of a restored cluster beside the server's own manifest. Safe to use from several threads.

    The sums are of what the repository gave, each chunk of which was just held against its id; never of what lies on the disk.

    Args:
        manifest: the server's, as it is in the snapshot.
    """

    def __init__(self, manifest: bytes) -> None:
        self._manifest = manifest
        overlaid = base_manifest.overlaid(manifest)
        self._wanted = overlaid | {LABEL} if overlaid else overlaid
        self._found: dict[str, tuple[int, int]] = {}

    def wants(self, path: str) -> bool:
        """Whether a file's sum is needed."""
        return path in self._wanted

    def through(self, path: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Pass a file's content on, and keep its sum where it is needed."""
        if path not in self._wanted:
            yield from pieces
            return
        size = value = 0
        for piece in pieces:
            size, value = size + len(piece), google_crc32c.extend(value, piece)
            yield piece
        self._found[path] = size, value

    def manifest(self) -> bytes:
        """The restored cluster's manifest: the server's own, verbatim, where nothing was put together."""
        return base_manifest.of_restored(self._manifest, self._found) if self._wanted else self._manifest
