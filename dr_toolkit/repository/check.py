"""Is everything that a snapshot needs there, and does it open? Findings, not exceptions: one damaged object hides no other.

``quick`` looks at names and sizes. ``data`` downloads whole packs and catalog objects, opens every frame in them, and compares what the
catalog says of each frame with the pack's own footer: a flipped bit anywhere in them is found and named.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from dr_toolkit import errors
from dr_toolkit.repository import crypto, layout, pack
from dr_toolkit.repository.records import Begin, Extent, PackUse
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot

THREADS = 3
HEADS = 8
GROUP = 512
"""Packs whose frames are held against the catalog in one walk: it bounds memory, whatever the snapshot's size."""


@dataclass(slots=True)
class Findings:
    """The outcome of one check.

    Attributes:
        packs, catalog_objects, frames: how many were looked at.
        bytes_read: bytes downloaded.
        failures: (object's name, what is wrong), in the order found.
    """

    packs: int = 0
    catalog_objects: int = 0
    frames: int = 0
    bytes_read: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, error: errors.DataError, name: str) -> None:
        """Note a failure, once per object and sentence."""
        row = (error.on or name, error.message)
        if row not in self.failures:
            self.failures.append(row)


def quick(repository: Repository, found: Snapshot) -> Findings:
    """Every object the snapshot needs exists and has the right size."""
    findings = Findings()
    with ThreadPoolExecutor(HEADS) as pool:
        needed = _catalog_objects(repository, found, findings)
        for failure in pool.map(lambda item: _size_at_least(repository, *item), needed.items()):
            findings.catalog_objects += 1
            if failure is not None:
                findings.fail(*failure)
        for failure in pool.map(
            lambda use: _size_is(repository, use), _pack_uses(repository, found, findings)
        ):
            findings.packs += 1
            if failure is not None:
                findings.fail(*failure)
        notes = (layout.note_name(found.id, row[0]) for row in found.header.notes)
        for failure in pool.map(lambda name: _size_at_least(repository, name, 1), notes):
            if failure is not None:
                findings.fail(*failure)
    return findings


def data(
    repository: Repository,
    found: Snapshot,
    percent: float = 100.0,
    read: set[tuple[bytes, int]] | None = None,
    *,
    advance: Callable[[int], None] = lambda _count: None,
    choose: random.Random | None = None,
) -> Findings:
    """Every pack (or a random share of ``percent``) and every catalog object downloads, opens and hashes to its ids.

    Args:
        repository: opened with the ``read`` role.
        found: the snapshot.
        percent: of the packs, more than 0, at most 100; at least one pack is read.
        read: packs (with their size) found right by an earlier call for another snapshot: of them only the footer is held against this catalog. Grows.
        advance: told the bytes read.
        choose: the source of randomness, for tests.
    """
    findings, read = Findings(), set() if read is None else read
    for object_id in {
        bytes.fromhex(name.rpartition("/")[2]) for name in _catalog_objects(repository, found, findings)
    }:
        findings.catalog_objects += 1
        try:
            repository.pages.check_object(object_id)
        except errors.DataError as error:
            findings.fail(error, layout.catalog_name(object_id))
    _check_notes(repository, found, findings)
    uses = list(_pack_uses(repository, found, findings))
    chosen = _share(uses, percent, choose or random.SystemRandom())
    _check_extents(repository, found, {use.pack for use in uses}, findings)
    with ThreadPoolExecutor(THREADS, thread_name_prefix="drctl-check") as pool:
        for start in range(0, len(chosen), GROUP):
            group = chosen[start : start + GROUP]
            expected = _expected_frames(repository, found, {use.pack for use in group}, findings)
            wanted = [(use, expected.get(use.pack, {})) for use in group]
            results = pool.map(
                lambda item: (
                    _held(repository, *item)
                    if (item[0].pack, item[0].size) in read
                    else _check_pack(repository, *item)
                ),
                wanted,
            )
            for use, result in zip(group, results, strict=True):
                _merge(findings, result)
                advance(result.bytes_read)
                if not result.failures:
                    read.add((use.pack, use.size))
    return findings


def _merge(findings: Findings, other: Findings) -> None:
    findings.packs += other.packs
    findings.frames += other.frames
    findings.bytes_read += other.bytes_read
    findings.failures += [row for row in other.failures if row not in findings.failures]


def _share(uses: Sequence[PackUse], percent: float, choose: random.Random) -> list[PackUse]:
    if percent >= 100:  # noqa: PLR2004
        return list(uses)
    count = min(len(uses), max(1, round(len(uses) * percent / 100)))
    return choose.sample(list(uses), count)


def _catalog_objects(repository: Repository, found: Snapshot, findings: Findings) -> dict[str, int]:
    """Name of each catalog object, and the end of the last page in it that is needed."""
    needed: dict[str, int] = {}
    for tree in repository.trees(found):
        try:
            for reference in tree.objects():
                name = layout.catalog_name(reference.object_id)
                needed[name] = max(needed.get(name, 0), reference.offset + reference.length)
        except errors.DataError as error:
            findings.fail(error, layout.snapshot_name(found.header.component, found.id))
    return needed


def _pack_uses(repository: Repository, found: Snapshot, findings: Findings) -> Iterator[PackUse]:
    _entries, packs = repository.trees(found)
    try:
        yield from packs.packs()
    except errors.DataError as error:
        findings.fail(error, layout.snapshot_name(found.header.component, found.id))


def _size_at_least(repository: Repository, name: str, size: int) -> tuple[errors.DataError, str] | None:
    try:
        facts = repository.store.head(name)
    except errors.DataError as error:
        return error, name
    if facts.size < size:
        return errors.Damaged(
            f'"{name}" has {facts.size} bytes where at least {size} are needed', fault="truncated", on=name
        ), name
    return None


def _size_is(repository: Repository, use: PackUse) -> tuple[errors.DataError, str] | None:
    name = layout.pack_name(use.pack)
    try:
        facts = repository.store.head(name)
    except errors.DataError as error:
        return error, name
    if facts.size != use.size:
        fault = "truncated" if facts.size < use.size else "trailing"
        return errors.Damaged(
            f'"{name}" has {facts.size} bytes instead of {use.size}', fault=fault, on=name
        ), name
    return None


_Frames = dict[int, tuple[bytes, int, int, int]]


def _expected_frames(
    repository: Repository, found: Snapshot, wanted: set[bytes], findings: Findings
) -> dict[bytes, _Frames]:
    """By pack and frame number: (chunk id, offset, length, chunk length), as the catalog says."""
    expected: dict[bytes, _Frames] = {}
    entries, _packs = repository.trees(found)
    try:
        for path, record in entries.leaves():
            if isinstance(record, Extent) and record.pack in wanted:
                row = (record.chunk_id, record.frame_offset, record.frame_length, record.chunk_length)
                if expected.setdefault(record.pack, {}).setdefault(record.frame, row) != row:
                    raise errors.Damaged(
                        f'the catalog contradicts itself about a frame of "{path}"',
                        fault="structure",
                        on=path,
                    )
    except errors.DataError as error:
        findings.fail(error, layout.snapshot_name(found.header.component, found.id))
    return expected


def _check_extents(repository: Repository, found: Snapshot, packs: set[bytes], findings: Findings) -> None:
    """The extents cover their entries, and the packs tree lists exactly the packs that they name."""
    name = layout.snapshot_name(found.header.component, found.id)
    entries, _packs = repository.trees(found)
    named: set[bytes] = set()
    count = 0
    try:
        for path, record in entries.leaves():
            if isinstance(record, Begin):
                count += 1
                for extent in entries.extents(path) or ():
                    if isinstance(extent, Extent):
                        named.add(extent.pack)
        if named != packs or count != found.header.entry_count:
            raise errors.Damaged(
                f'the catalog of "{name}" does not list what it refers to', fault="structure", on=name
            )
    except errors.DataError as error:
        findings.fail(error, name)


def _check_notes(repository: Repository, found: Snapshot, findings: Findings) -> None:
    for name, _size, _digest in found.header.notes:
        try:
            repository.note(found, name)
        except errors.DataError as error:
            findings.fail(error, layout.note_name(found.id, name))


def _held(repository: Repository, use: PackUse, expected: _Frames) -> Findings:
    """Of a pack read before: its frames opened and hashed to the footer's ids; another catalog may still claim something else of them."""
    name = layout.pack_name(use.pack)
    result = Findings(packs=1)
    try:
        result.frames = _held_against(repository.footer(use.pack, use.size), name, expected)
    except errors.DataError as error:
        result.fail(error, name)
    return result


def _check_pack(repository: Repository, use: PackUse, expected: _Frames) -> Findings:
    name = layout.pack_name(use.pack)
    result = Findings(packs=1)
    try:
        body = memoryview(repository.store.get(name))
        result.bytes_read = len(body)
        if len(body) != use.size:
            fault = "truncated" if len(body) < use.size else "trailing"
            raise errors.Damaged(
                f'"{name}" has {len(body)} bytes instead of {use.size}', fault=fault, on=name
            )
        result.frames = _open_frames(repository, name, body, expected)
    except errors.DataError as error:
        result.fail(error, name)
    return result


def _open_frames(repository: Repository, name: str, body: memoryview, expected: _Frames) -> int:
    opened = pack.open_pack(bytes(body[: pack.HEADER_SIZE]), name, repository.keys)
    length = pack.parse_trailer(bytes(body[-pack.TRAILER_SIZE :]), name)
    footer_start = len(body) - pack.TRAILER_SIZE - length
    if footer_start < pack.HEADER_SIZE:
        raise errors.Damaged(f'the footer of "{name}" is longer than the pack', fault="structure", on=name)
    footer = pack.open_footer(body[footer_start : -pack.TRAILER_SIZE], len(body), name, repository.keys)
    if footer.epoch != crypto.parse_header(bytes(body[: crypto.HEADER_SIZE]), b"P", name):
        raise errors.Damaged(
            f'the footer of "{name}" is of another epoch than the pack', fault="structure", on=name
        )
    chunk_key, position = repository.keys.derived("chunk-id"), pack.HEADER_SIZE
    for number, (chunk_id, chunk_length, frame_length, _source, _offset) in enumerate(footer.frames):
        opened.chunk(number, body[position : position + frame_length], chunk_length, chunk_id, chunk_key)
        position += frame_length
    return _held_against(footer, name, expected)


def _held_against(footer: pack.Footer, name: str, expected: _Frames) -> int:
    """What a catalog says of a pack's frames, and what the footer says of them; gives the number of frames."""
    position, wanted = pack.HEADER_SIZE, dict(expected)
    for number, (chunk_id, chunk_length, frame_length, _source, _offset) in enumerate(footer.frames):
        claim = wanted.pop(number, None)
        if claim is not None and claim != (chunk_id, position, frame_length, chunk_length):
            raise errors.Damaged(
                f'frame {number} of "{name}" is not the one that the catalog names', fault="chunk-id", on=name
            )
        position += frame_length
    if wanted:
        raise errors.Damaged(f'"{name}" has fewer frames than the catalog names', fault="structure", on=name)
    return len(footer.frames)
