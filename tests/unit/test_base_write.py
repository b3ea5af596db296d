"""Files whose parts come in any order, through the page cache and past it."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import pytest

from dr_toolkit.postgres.base_sums import FileSum, combined
from dr_toolkit.postgres.base_write import ALIGNMENT, FileParts

MEGA = 1 << 20


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("size", [0, 3, ALIGNMENT, MEGA, 9 * MEGA + 777])
def test_parts_make_the_file_in_whatever_order_they_come(tmp_path: Path, size: int, direct: bool):
    """Parts of odd lengths, some of them larger than the buffer, from four threads; the size and the rights are as asked."""
    chance = random.Random(size)
    content = chance.randbytes(size)
    cuts = sorted({0, size, *(min(size, n * ALIGNMENT) for n in (1, 40, 1300)), min(size, 5 * MEGA + 13)})
    parts = [(start, content[start:end]) for start, end in itertools.pairwise(cuts)]
    chance.shuffle(parts)
    file = FileParts(tmp_path / "file", size, direct=direct)
    total = FileSum()

    def take(part: tuple[int, bytes]) -> int:
        offset, data = part
        pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
        total.add(offset, pieces)
        return file.write(offset, pieces)

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, parts)) == size
    file.finish(0o640)
    file.close()
    file.close()
    assert (tmp_path / "file").read_bytes() == content
    assert (tmp_path / "file").stat().st_mode & 0o7777 == 0o640
    assert total.result() == (size, google_crc32c.value(content))


def test_an_old_file_of_that_name_leaves_nothing(tmp_path: Path):
    """What a killed run left under the name is gone, also where the new file is shorter."""
    (tmp_path / "file").write_bytes(b"old" * MEGA)
    file = FileParts(tmp_path / "file", 5, direct=True)
    file.write(0, [b"short"])
    file.finish(0o600)
    file.close()
    assert (tmp_path / "file").read_bytes() == b"short"


@pytest.mark.parametrize("length", [0, 1, 5, 4096, 4 * MEGA + 3])
def test_sums_of_two_parts_make_that_of_the_whole(length: int):
    """The sum of a whole follows from the sums of its parts."""
    first, second = b"the first part", bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    sums = google_crc32c.value(first), google_crc32c.value(second)
    assert combined(*sums, len(second)) == google_crc32c.value(first + second)
