"""Which digests are taken early, and what may run beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dr_toolkit.postgres.archive import TableSummary
from dr_toolkit.postgres.compare import DumpFacts
from dr_toolkit.postgres.digests import NO_LARGE_OBJECTS
from dr_toolkit.postgres.early_digests import FROM_BYTES, worth_it

EMPTY = DumpFacts(18, 18, {}, {}, NO_LARGE_OBJECTS, {})


def facts(**sizes):
    """A snapshot with tables of these sizes."""
    tables = {("public", name): TableSummary(1, name, size) for name, size in sizes.items()}
    return replace(EMPTY, tables=tables)


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ({}, set()),
        ({"a": FROM_BYTES - 1}, set()),
        ({"a": FROM_BYTES}, {"a"}),
        ({"a": FROM_BYTES, "small": 1000, "middle": 1 << 20}, {"a", "middle"}),
    ],
)
def test_only_tables_that_are_worth_a_program_are_read_early(sizes, chosen):
    """Where there is little to read the programs' start would cost more than is gained."""
    assert {name for _schema, name in worth_it(facts(**sizes))} == chosen


def test_no_argument_list_of_thousands():
    """Tables are named in arguments, so only the largest are."""
    chosen = worth_it(facts(**{f"t{number:03d}": FROM_BYTES + number for number in range(300)}))
    assert len(chosen) == 50
    assert ("public", "t299") in chosen
    assert ("public", "t000") not in chosen
