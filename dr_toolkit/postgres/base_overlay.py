"""Files of a cluster into a snapshot: whole ones as they are, the server's increments laid over the parent's content."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dr_toolkit.postgres import base_increment, base_marks
from dr_toolkit.postgres.base_increment import Increment, RelationFile, Shape, Unfit
from dr_toolkit.postgres.base_limits import Limits
from dr_toolkit.postgres.base_manifest import parse_lsn
from dr_toolkit.postgres.base_marks import Array, Marks
from dr_toolkit.postgres.base_tar import Member, TarStream
from dr_toolkit.repository.entries import OverlaySink, PouringSink

FILES = "cluster/"
"""Before the path of each file of the cluster."""
LABEL = "backup_label"
_READ = 1 << 20
_START = re.compile(rb"^START WAL LOCATION: ([0-9A-F]+/[0-9A-F]+) ", re.MULTILINE)
_TIMELINE = re.compile(rb"^START TIMELINE: (\d+)", re.MULTILINE)
_INCREMENTAL_LINES = re.compile(rb"^INCREMENTAL FROM .*\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Parent:
    """The snapshot that increments are laid over.

    Attributes:
        sizes: bytes of each file, by path.
        overlays: how many increments were laid over a file since it was read whole, where that is not none.
        marks: of its pages.
        start: the LSN at which it began.
        timeline: where that was.
        limits: asks the server for the limits between two LSNs: (timeline, start, end).
    """

    sizes: Mapping[str, int]
    overlays: Mapping[str, int]
    marks: Marks
    start: int
    timeline: int
    limits: Callable[[int, int, int], Limits]


class PlainFiles:
    """Files as the server sends them."""

    def write(self, member: Member, stream: TarStream, sink: PouringSink) -> None:
        """Write one file or directory as an entry."""
        sink.begin(FILES + member.path, member.kind, cutting="fixed")
        for _piece in stream.pour(sink):
            pass
        sink.end({"mode": member.mode})


@dataclass(slots=True)
class MarkedFiles(PlainFiles):
    """The same, and the marks of pages are kept: of a server that can make an increment next time.

    Attributes:
        shape: the server's sizes.
        marks: what was found.
        judge: told the path and the LSNs of the pages of each relation's file.
    """

    shape: Shape
    marks: Marks = field(default_factory=Marks)
    judge: Callable[[str, Array], None] | None = None

    def write(self, member: Member, stream: TarStream, sink: PouringSink) -> None:
        """See ``PlainFiles``."""
        if not _has_marks(member):
            PlainFiles.write(self, member, stream, sink)
            return
        found: list[Array] = []
        sink.begin(FILES + member.path, member.kind, cutting="fixed")
        for piece in stream.pour(sink):
            found.append(base_marks.lsns(piece, self.shape.block))  # noqa: PERF401 - a piece is valid until the next
        sink.end({"mode": member.mode})
        lsns = base_marks.joined(found)
        self.marks.files[member.path] = base_marks.marks_of(lsns)
        if self.judge is not None:
            self.judge(member.path, lsns)


class OverlaidFiles:
    """Files of an increment: each becomes an entry like that of a full read.

    Args:
        shape: the server's sizes.
        parent: what the increments are laid over.
        sink: of a snapshot with that parent.
    """

    def __init__(self, shape: Shape, parent: Parent, sink: OverlaySink) -> None:
        self._whole = MarkedFiles(shape)
        self._shape = shape
        self._parent = parent
        self._sink = sink
        self._limits: Limits | None = None
        self.overlaid = 0

    @property
    def marks(self) -> Marks:
        """The marks of all pages."""
        return self._whole.marks

    def write(self, member: Member, stream: TarStream, sink: PouringSink) -> None:
        """See ``PlainFiles``.

        Raises:
            Unfit: the increment cannot be used.
        """
        path = base_increment.plain_path(member.path)
        file = base_increment.relation_file(member.path)
        if member.path == LABEL:
            self._label(member, stream.take(member.size), sink)
        elif path is None or file is None or member.kind != "file":
            self._whole.write(member, stream, sink)
        else:
            head = base_increment.read_head(stream.take, member.size, self._shape, path)
            self._overlay(path, file, head, member.mode, stream)

    def _label(self, member: Member, content: bytes, sink: PouringSink) -> None:
        """The label comes first, and says up to where the increment's summaries must reach. Two of its lines would forbid a start."""
        start, timeline = _START.search(content), _TIMELINE.search(content)
        if start is None or timeline is None:
            raise Unfit("the server's backup label cannot be understood", on=LABEL)
        if int(timeline[1]) != self._parent.timeline:
            raise Unfit(f"the timeline changed from {self._parent.timeline} to {int(timeline[1])}", on=LABEL)
        end = parse_lsn(start[1].decode())
        self._limits = self._parent.limits(self._parent.timeline, self._parent.start, end)
        sink.begin(FILES + LABEL, member.kind, cutting="fixed")
        sink.write(_INCREMENTAL_LINES.sub(b"", content))
        sink.end({"mode": member.mode})

    def _overlay(self, path: str, file: RelationFile, head: Increment, mode: int, stream: TarStream) -> None:
        before, marks = self._parent.sizes.get(path), self._parent.marks.files.get(path)
        block = self._shape.block
        if before is None or before % block or (marks is None) != (file.fork != base_increment.MAIN):
            raise Unfit(f'the parent does not have "{path}" as the increment supposes it', on=path)
        if self._limits is None:
            raise Unfit("the server sent no backup label before the first file", on=LABEL)
        lacking = self._limits.lacking(file, head)
        if lacking is not None:
            raise Unfit(
                f'the server\'s increment of "{path}" lacks block {lacking}, which was written', on=path
            )
        found: list[Array] = []
        self._sink.begin(FILES + path, "file", cutting="fixed")
        pieces = list(base_increment.pieces(head, before // block, self._limits.within(file)))
        for piece in pieces:
            if piece.source == "parent":
                self._sink.keep(piece.count * block)
                found += [] if marks is None else [marks[piece.start : piece.start + piece.count]]
            elif piece.source == "zeros":
                self._sink.zeros(piece.count * block)
                found.append(base_marks.none(piece.count))
            else:
                self._images(piece.count * block, stream, found)
        same = head.length * block == before and all(piece.source == "parent" for piece in pieces)
        overlays = self._parent.overlays.get(path, 0) + (not same)
        self._sink.end({"mode": mode, **({"overlays": overlays} if overlays else {})})
        if marks is not None:
            self.marks.files[path] = base_marks.joined(found)
        self.overlaid += 1

    def _images(self, size: int, stream: TarStream, found: list[Array]) -> None:
        while size:
            images = stream.take(min(size, _READ))
            self._sink.write(images)
            found.append(base_marks.marks_of(base_marks.lsns(images, self._shape.block)))
            size -= len(images)


def _has_marks(member: Member) -> bool:
    file = base_increment.relation_file(member.path)
    return member.kind == "file" and file is not None and file.fork == base_increment.MAIN
