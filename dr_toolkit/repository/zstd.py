"""zstd with the bounds that docs/format.md asks for: one frame, its size stated, nothing after it."""

from __future__ import annotations

import threading

import zstandard

from dr_toolkit import errors

MAGIC = b"\x28\xb5\x2f\xfd"
LEVEL = 1
"""Fast enough that the source stays the bottleneck; higher levels gave a tenth less for twice the CPU."""

_BLOCK_HEADER = 3
_RLE, _RESERVED = 1, 3
_CHECKSUM = 4
_STEP = 64 << 10


class _OfThread(threading.local):
    """Compressors by level, and a decompressor: making their tables anew for every chunk took a tenth of the time."""

    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_of_thread = _OfThread()


def compress(data: bytes | bytearray | memoryview, level: int = LEVEL) -> bytes:
    """Compress ``data`` into one frame that states its content size."""
    engine = _of_thread.compressors.get(level)
    if engine is None:
        engine = _of_thread.compressors[level] = zstandard.ZstdCompressor(level)
    return engine.compress(data)


def decompress(frame: bytes | memoryview, limit: int, on: str) -> bytes:
    """Decompress exactly one frame.

    Args:
        frame: the compressed bytes.
        limit: the most bytes of content that may come out.
        on: the object's name, for the error.

    Raises:
        Damaged: not one whole zstd frame, its size not stated, or more than ``limit`` bytes.
    """
    try:
        facts = zstandard.get_frame_parameters(frame)
        if bytes(frame[:4]) != MAGIC or facts.dict_id:
            raise errors.Damaged("the content is not one plain zstd frame", fault="structure", on=on)
        stated = facts.content_size
        if stated > limit:  # an unknown size is given as the largest number
            raise errors.Damaged(
                f"content of {stated} bytes where at most {limit} may be", fault="structure", on=on
            )
        length = _length(frame, has_checksum=facts.has_checksum)
        if length < len(frame):
            raise errors.Damaged("bytes follow the compressed content", fault="trailing", on=on)
        content = _content(frame, stated)
    except zstandard.ZstdError as error:
        raise errors.Damaged(
            "the compressed content does not decompress", fault="structure", on=on
        ) from error
    if length > len(frame) or len(content) != stated:
        raise errors.Damaged("the content is not of the size that it states", fault="structure", on=on)
    return content


def decompress_stream(data: bytes, limit: int, on: str) -> bytes:
    """Decompress a zstd stream that need not state its size.

    Raises:
        Damaged: not one whole stream, or more than ``limit`` bytes.
    """
    engine = zstandard.ZstdDecompressor().decompressobj()
    parts, size = list[bytes](), 0
    try:
        for start in range(0, len(data), _STEP):
            parts.append(engine.decompress(data[start : start + _STEP]))
            size += len(parts[-1])
            if size > limit:
                raise errors.Damaged(f"more than {limit} bytes of content", fault="structure", on=on)
    except zstandard.ZstdError as error:
        raise errors.Damaged(
            "the compressed content does not decompress", fault="structure", on=on
        ) from error
    if not engine.eof or engine.unused_data:
        raise errors.Damaged("the compressed content is not one stream", fault="truncated", on=on)
    return b"".join(parts)


def _content(frame: bytes | memoryview, stated: int) -> bytes:
    engine = _of_thread.decompressor
    if stated:
        return engine.decompress(frame, max_output_size=stated)
    # For a stated size of 0 the call above looks at nothing.
    with engine.stream_reader(bytes(frame), read_across_frames=False) as reader:
        return bytes(reader.read(1))


def _length(frame: bytes | memoryview, *, has_checksum: bool) -> int:
    """How long the frame says that it is, block by block (RFC 8878, sections 3.1.1 and 3.1.1.2)."""
    at = zstandard.frame_header_size(frame)
    last = False
    while not last:
        header = int.from_bytes(frame[at : at + _BLOCK_HEADER], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if at + _BLOCK_HEADER > len(frame) or kind == _RESERVED:
            raise zstandard.ZstdError("a block has no whole header")
        at += _BLOCK_HEADER + (1 if kind == _RLE else size)
    return at + (_CHECKSUM if has_checksum else 0)
