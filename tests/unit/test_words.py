"""Numbers in sentences."""

import pytest

from dr_toolkit.words import counted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0, "object"), "0 objects"),
        ((1, "object"), "1 object"),
        ((2, "object"), "2 objects"),
        ((1, "entry", "entries"), "1 entry"),
        ((0, "snapshot is", "snapshots are"), "0 snapshots are"),
        ((1, "", ""), "1 "),
    ],
)
def test_counted(arguments, said):
    """Only a one has the singular; the verb follows its noun."""
    assert counted(*arguments) == said
