"""The section ``schedule``: what ``drctl schedule`` does beside each component's own backups."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator

from dr_toolkit.config.section import Section
from dr_toolkit.config.values import Cron, Text


def _check_zone(text: str) -> str:
    if text not in available_timezones():
        raise ValueError('expected the name of a time zone, such as "UTC" or "Europe/Paris"')
    return text


class ScheduleConfig(Section):
    """How `drctl schedule` reads the components' `schedule`, and what else it does."""

    time_zone: Annotated[Text, AfterValidator(_check_zone)] = "UTC"
    """The time zone of every cron expression of this file (`Europe/Paris`)."""
    verify: Cron | None = None
    """When to verify every component by restore: the five fields of cron. Without it, never."""
    drill: Cron | None = None
    """When to restore a whole recovery point into scratch (`drctl drill`): the five fields of cron. Without it, never."""
