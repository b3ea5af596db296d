"""Objects as files: every key has one safe place below a directory, and no two keys have the same.

``%`` escapes what a file system refuses or would understand otherwise: an empty part is ``%``, ``.`` and ``..`` and control characters are
written in hexadecimal, and so is ``%`` itself. A part that is too long ends in a digest. Where a key is also the directory of another, its file ends in ``%``.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from dr_toolkit.buckets import facts
from dr_toolkit.errors import TargetError
from dr_toolkit.log import Progress
from dr_toolkit.repository.entries import BulkSource, EntryInfo, EntrySource

INDEX = "%objects.jsonl"
"""Beside the files: one line for each with its key, place and metadata. No key can have this place."""
_ESCAPED = re.compile(r"[%\x00-\x1f\x7f]")
_LONGEST = 255
_KEPT = 160
_SMALL = 1 << 20
"""Objects up to this size are fetched together: many lie in one chunk, and one by one each would fetch and open the whole of it."""


def safe_path(key: str) -> str:
    """The relative path of a key's file."""
    return "/".join(_safe_part(part) for part in key.split("/"))


def _safe_part(part: str) -> str:
    if part == "":
        return "%"
    if part in {".", ".."}:
        return part.replace(".", "%2E")
    found = _ESCAPED.sub(lambda m: f"%{ord(m[0]):02X}", part)
    if len(found.encode()) <= _LONGEST:
        return found
    head = found.encode()[:_KEPT].decode(errors="ignore")
    return f"{head}%~{blake3(part.encode()).hexdigest(16)}"


@dataclass(slots=True)
class Survey:
    """What a restore into a directory would write.

    Attributes:
        objects: how many.
        bytes: of them.
        torn: keys that changed while they were read: they cannot be restored.
    """

    objects: int = 0
    bytes: int = 0
    torn: list[str] = field(default_factory=list)


def survey(source: EntrySource, prefix: str) -> Survey:
    """Look through the objects below a prefix."""
    found = Survey()
    for info in source.entries(prefix):
        if facts.CHANGED in info.meta:
            found.torn.append(info.path)
        elif info.kind != facts.MARKER:
            found.objects += 1
            found.bytes += info.size
    return found


def places(source: EntrySource, prefix: str) -> Iterator[tuple[EntryInfo, str]]:
    """Each restorable object with the path of its file."""
    directories: set[str] = set()
    for info in source.entries(prefix):
        parent = safe_path(info.path).rpartition("/")[0]
        while parent and parent not in directories:
            directories.add(parent)
            parent = parent.rpartition("/")[0]
    for info in source.entries(prefix):
        if facts.CHANGED in info.meta or info.kind == facts.MARKER:
            continue
        path = safe_path(info.path)
        yield info, f"{path}%" if path in directories else path


def write(source: BulkSource, directory: Path, prefix: str, progress: Progress) -> int:
    """Write all objects below a prefix into an empty directory, and the index.

    Returns:
        How many.

    Raises:
        TargetError: the directory is not empty, or cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_empty(directory)
        count, made = 0, {str(directory)}
        with (directory / INDEX).open("x", encoding="utf-8") as index:
            for info, path, content in _contents(source, prefix):
                pieces = source.read(info.path) if content is None else (content,)
                _write_one(pieces, f"{directory}/{path}", made, progress)
                row = {"key": info.path, "file": path, "size": info.size, **info.meta}
                index.write(json.dumps(row, ensure_ascii=True) + "\n")
                count += 1
    except OSError as error:
        raise TargetError(
            f'"{error.filename or directory}" cannot be written: {error.strerror}',
            on=str(directory),
            hint="name a new directory on a disk with enough room",
            unaffected="the bucket was not touched",
        ) from error
    return count


def check_empty(directory: Path) -> None:
    """Refuse a directory with something in it.

    Raises:
        TargetError: there is.
    """
    if os.path.lexists(directory) and (not directory.is_dir() or next(directory.iterdir(), None) is not None):
        raise TargetError(
            f'"{directory}" is not an empty directory',
            on=str(directory),
            hint="name a new one",
            unaffected="it was not touched",
        )


def compare(source: EntrySource, directory: Path, prefix: str = "") -> tuple[int, list[str]]:
    """Read the files back and compare sizes and digests with what was read from the bucket.

    Returns:
        How many were compared, and a sentence for each difference.
    """
    count, failures = 0, []
    for info, path in places(source, prefix):
        count += 1
        hasher, size = blake3(), 0
        with (directory / path).open("rb") as file:
            while piece := file.read(1 << 20):
                hasher.update(piece)
                size += len(piece)
        if size != info.size or hasher.hexdigest() != info.meta.get("digest"):
            failures.append(f'the object "{info.path}" is not what was read from the bucket')
    return count, failures


def _contents(source: BulkSource, prefix: str) -> Iterator[tuple[EntryInfo, str, bytes | None]]:
    """Each restorable object with the path of its file and its content; None of a large one."""
    paths: deque[str] = deque()

    def wanted() -> Iterator[EntryInfo]:
        for info, path in places(source, prefix):
            paths.append(path)
            yield info

    for info, content in source.read_many(wanted(), _SMALL):
        yield info, paths.popleft(), content


def _write_one(pieces: Iterable[bytes], target: str, made: set[str], progress: Progress) -> None:
    parent = target.rpartition("/")[0]
    if parent not in made:
        Path(parent).mkdir(mode=0o700, parents=True, exist_ok=True)
        made.add(parent)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
            progress.advance(len(piece))
    progress.advance(0, 1)
