"""Cron's five fields as numbers, with cron's own rules. Pure; the configuration has checked the text."""

from __future__ import annotations

from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class Times:
    """When to run: any minute that fits all fields.

    Attributes:
        minutes: 0 to 59.
        hours: 0 to 23.
        days: of the month, 1 to 31.
        months: 1 to 12.
        weekdays: 0 is Monday, 6 Sunday.
    """

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]


def parse(expression: str) -> list[Times]:
    """What a cron expression means: several where both days are restricted, because cron then runs on either.

    Args:
        expression: five fields, as the configuration accepts them.
    """
    minute, hour, day, month, weekday = expression.lower().split()
    every_day = tuple(range(1, 32))
    every_weekday = tuple(range(7))
    days = _numbers(day, 1, 31, ())
    weekdays = tuple(sorted({(n - 1) % 7 for n in _numbers(weekday, 0, 7 if "7" in weekday else 6, _DAYS)}))
    base = (_numbers(minute, 0, 59, ()), _numbers(hour, 0, 23, ()))
    months = _numbers(month, 1, 12, _MONTHS, first=1)
    if day.startswith("*") or weekday.startswith("*"):
        return [Times(*base, days, months, weekdays)]
    return [Times(*base, days, months, every_weekday), Times(*base, every_day, months, weekdays)]


def _numbers(field: str, low: int, high: int, words: tuple[str, ...], first: int = 0) -> tuple[int, ...]:
    found: set[int] = set()
    for item in field.split(","):
        span, _, step = item.partition("/")
        ends = [low, high] if span == "*" else [_number(end, words, first) for end in span.split("-")]
        if len(ends) == 1:
            ends = [ends[0], high if step else ends[0]]
        found |= set(range(ends[0], ends[1] + 1, int(step or 1)))
    return tuple(sorted(found))


def _number(text: str, words: tuple[str, ...], first: int) -> int:
    return words.index(text) + first if text in words else int(text)
