"""Archives that pg_dump 15 to 18 wrote from one small database of a server of version 15.

It held ``t`` (three rows), ``empty`` and two large objects, one of them empty. The files are the programs' exact output, uncompressed
and written to a pipe.
"""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dr_toolkit.errors import SourceError
from dr_toolkit.postgres.archive import contents

SAMPLES = Path(__file__).parent / "archive-samples"


@pytest.mark.parametrize(("name", "minor"), [("15", 14), ("16", 15), ("17", 16), ("18", 16)])
def test_archives_of_every_version(name, minor):
    """Whatever pg_dump wrote it, the same database has the same rows, digests and large objects."""
    with (SAMPLES / f"pg_dump-{name}.archive").open("rb") as file:
        found = contents(file)
    assert found.toc.version == (1, minor)
    assert found.toc.dump_version.startswith(name)
    assert found.toc.server_version.startswith("15")
    assert {key: (summary.rows, summary.size) for key, summary in found.tables.items()} == {
        ("public", "t"): (3, 4 + 7 + 5),
        ("public", "empty"): (0, 0),
    }
    digest = found.tables["public", "t"].digest
    assert digest == "078e3ac289f8979100325ccb5e00580d35e274352093129386295c9e0a996eaa"
    assert (found.large_objects.count, found.large_objects.size) == (2, 3)
    assert found.large_objects.digest == "a474bbfe298415282778d71ced6ef5d38273e718ecb04a5963f4a37c6acb3b3a"


def test_an_archive_of_inserts():
    """Statements instead of COPY text are taken as they are."""
    with (SAMPLES / "pg_dump-17-inserts.archive").open("rb") as file:
        found = contents(file)
    assert found.tables["public", "t"].rows is None
    assert found.tables["public", "t"].size > 100
    assert (found.large_objects.count, found.large_objects.size) == (2, 3)


@pytest.mark.parametrize("sample", sorted(path.name for path in SAMPLES.iterdir()))
def test_a_sample_cut_anywhere_is_an_error(sample):
    """No part of a real archive passes for the whole."""
    data = (SAMPLES / sample).read_bytes()
    contents(io.BytesIO(data))
    for length in range(len(data)):
        with pytest.raises(SourceError):
            contents(io.BytesIO(data[:length]))
