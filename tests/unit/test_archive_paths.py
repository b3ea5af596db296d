"""Paths of a dump's entries: ascending whatever order pg_dump chose, and fit for any name."""

from __future__ import annotations

import itertools
import random

from dr_toolkit.postgres.dump_entries import Paths


def test_a_path_always_sorts_after_the_one_before():
    """Thousands of names in no order at all: the run goes up, beyond two digits too, and the paths still ascend."""
    chosen = random.Random(1)
    names = [
        ("".join(chosen.choices("ab/-%~. é", k=3)), "".join(chosen.choices("ab", k=2))) for _ in range(5000)
    ]
    paths = Paths()
    found = [paths.following(schema.replace("/", "%2F"), table).encode() for schema, table in names]
    assert all(one < next_ for one, next_ in itertools.pairwise(found))
    assert found[0].startswith(b"archive/data/00/")
    assert len(found[-1].split(b"/")[2]) == 6


def test_names_in_order_stay_in_one_run():
    """A database whose names are in order has all its tables in run 00."""
    paths = Paths()
    found = [paths.following("public", f"t{number:02d}") for number in range(50)]
    assert {path.split("/")[2] for path in found} == {"00"}
