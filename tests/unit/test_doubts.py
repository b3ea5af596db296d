"""Which failed verification still stands, and what the screens make of it."""

from __future__ import annotations

import pytest

from dr_toolkit.jobs import doubts
from dr_toolkit.repository.repository import Evidence


def proofs(*results: str) -> list[Evidence]:
    """Evidence in the order given: ``data-`` failed, ``data+`` passed, ``data30+`` passed for 30% of the packs."""
    made = []
    for number, word in enumerate(results):
        level = word.rstrip("+-0123456789")
        percent = float(word[len(level) : -1] or 100)
        result = {"level": level, "result": "passed" if word[-1] == "+" else "failed"}
        time = f"2026-11-24T11:{number:02}:00Z"
        made.append(Evidence(str(number), time, {**result, "checks": {"percent": percent}}))
    return made


@pytest.mark.parametrize(
    ("results", "standing"),
    [
        ([], None),
        (["restore+"], None),
        (["restore+", "data-"], "data"),
        (["restore+", "quick-"], "quick"),
        (["data-", "quick+"], "data"),
        (["data-", "data30+"], "data"),
        (["data-", "data100+"], None),
        (["data-", "sample+"], "data"),
        (["sample-", "data+"], "sample"),
        (["quick-", "data30+"], None),
        (["data-", "sample-", "restore+"], None),
        (["restore-", "data+"], "restore"),
        (["quick-", "restore-"], "restore"),
        (["gate-"], None),
    ],
)
def test_a_failure_stands_until_something_as_strong_passes(results, standing):
    """A weaker verification, or a share of the data, is no answer to it; in whatever order the evidence is listed."""
    found = doubts.failing(reversed(proofs(*results)))
    assert (found and found.result["level"]) == standing
