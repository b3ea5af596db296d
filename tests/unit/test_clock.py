"""Times are written and read in one way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from dr_toolkit import clock


def test_now_is_aware_utc():
    """A moment without a zone could mean anything."""
    assert clock.now().tzinfo is UTC


def test_rfc3339_cuts_fractions_and_converts_to_utc():
    """Whole seconds, UTC, with Z."""
    moment = datetime(2026, 11, 23, 10, 45, 49, 999_999, tzinfo=timezone(timedelta(hours=2)))
    assert clock.rfc3339(moment) == "2026-11-23T08:45:49Z"


def test_rfc3339_refuses_a_moment_without_zone():
    """Guessing the zone is how times go wrong by hours."""
    with pytest.raises(ValueError, match="without a time zone"):
        clock.rfc3339(datetime(2026, 11, 23))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T08:45:49Z", datetime(2026, 11, 23, 8, 45, 49, tzinfo=UTC)),
        ("2026-11-23t08:45:49z", datetime(2026, 11, 23, 8, 45, 49, tzinfo=UTC)),
        ("2026-11-23T10:45:49.5+02:00", datetime(2026, 11, 23, 8, 45, 49, 500_000, tzinfo=UTC)),
    ],
)
def test_parse(text, expected):
    """Any RFC 3339 moment is read, and is UTC afterwards."""
    parsed = clock.parse_rfc3339(text)
    assert parsed == expected
    assert parsed.tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["", "2026-11-23", "2026-11-23T08:45:49", "20261123T084549Z", "2026-13-01T00:00:00Z", "x"]
)
def test_parse_refuses(text):
    """What has no zone, or is no time, is refused."""
    with pytest.raises(ValueError):
        clock.parse_rfc3339(text)


def test_sleep_of_nothing_returns():
    """A deadline that passed is no reason to fail."""
    clock.sleep(-1)
