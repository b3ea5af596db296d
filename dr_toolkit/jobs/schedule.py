"""Run what is configured when it is due, in one process: for machines without CronJobs.

Each run is a drctl of its own, so that one that dies takes nothing with it, and its memory is given back.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from apscheduler import events
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from dr_toolkit import clock, errors, log, process
from dr_toolkit.config import Config
from dr_toolkit.jobs import cron

MISFIRE_S = 3600
"""A run that is late by less is made up for, once however many were missed; later than that it waits for the next time."""

_log = log.get("jobs.schedule")
_AWAKE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that is done again and again.

    Attributes:
        action: what.
        component: of which; None for all.
        expression: when, as configured.
        zone: the time zone that the expression is meant in.
    """

    action: Literal["backup", "verify", "drill"]
    component: str | None
    expression: str
    zone: str

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.action} {self.component}" if self.component else self.action

    def arguments(self) -> list[str]:
        """Of drctl's command line."""
        options = ["--restore"] if self.action == "verify" else []
        return [self.action, *([self.component] if self.component else []), *options]

    def trigger(self) -> Any:
        """For APScheduler."""
        zone = ZoneInfo(self.zone)
        return OrTrigger([_trigger(times, zone) for times in cron.parse(self.expression)])


def tasks(config: Config) -> list[Task]:
    """What the configuration wants done.

    Raises:
        NothingToDo: no schedule is configured.
    """
    zone = config.schedule.time_zone
    found = [
        Task("backup", name, component.schedule, zone)
        for name, component in config.components.items()
        if component.schedule is not None
    ]
    if config.schedule.verify is not None:
        found.append(Task("verify", None, config.schedule.verify, zone))
    if config.schedule.drill is not None:
        found.append(Task("drill", None, config.schedule.drill, zone))
    if not found:
        raise errors.NothingToDo(
            "no schedule is configured",
            hint='give components a "schedule" (15 * * * *); see: drctl config example',
        )
    return found


def next_times(task: Task, now: datetime, count: int = 3) -> Iterator[datetime]:
    """When a task is next due, in its own time zone."""
    trigger, last, after = task.trigger(), None, now.astimezone(ZoneInfo(task.zone))
    for _ in range(count):
        last = trigger.get_next_fire_time(last, after)
        if last is None:
            return
        yield last
        after = last + timedelta(seconds=1)


class Runner:
    """Starts runs, and ends them when it is told to.

    Args:
        command: how drctl is started, with the options that every run has.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._lock = threading.Lock()
        self._running: set[process.Pipe] = set()
        self._stopped = False

    def run(self, task: Task) -> int:
        """Run a task to its end; its exit code. What went wrong is in the log: the next time comes all the same."""
        began = clock.monotonic()
        try:
            with process.Pipe([*self._command, *task.arguments()], stdout=False) as run:
                with self._lock:
                    if self._stopped:
                        return 143
                    self._running.add(run)
                try:
                    status = run.wait()
                finally:
                    with self._lock:
                        self._running.discard(run)
                said = run.stderr_tail()
        except errors.ProgramError as error:
            _log.error("run failed", task=task.name, reason=error.message)
            return 1
        seconds = round(clock.monotonic() - began, 1)
        if status == 0:
            _log.info("run done", task=task.name, seconds=seconds)
        else:
            last = next((line for line in reversed(said.splitlines()) if line.strip()), "")
            _log.error("run failed", task=task.name, exit_code=status, seconds=seconds, said=last)
        return status

    def stop(self) -> None:
        """Ask every run to end, wait for it, and start no more."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        for run in running:
            run.stop()


def command_of(config_path: Path | None) -> list[str]:
    """How a run is started: this very drctl, with this configuration."""
    code = "from dr_toolkit.cli.main import entry_point; entry_point()"
    configured = ["--config", str(config_path)] if config_path else []
    return [sys.executable, "-c", code, *configured, "--log-format", "json"]


def run(planned: Sequence[Task], runner: Runner, triggers: Sequence[Any] | None = None) -> None:
    """Run tasks whenever they are due, until a signal says that it is enough. Never returns otherwise.

    Args:
        planned: what.
        runner: who starts them.
        triggers: when, instead of what the tasks say (tests).
    """
    scheduler = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(max_workers=len(planned))},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": MISFIRE_S},
        timezone=ZoneInfo(planned[0].zone),
    )
    for task, trigger in zip(planned, triggers or [task.trigger() for task in planned], strict=True):
        scheduler.add_job(runner.run, trigger, args=[task], id=task.name, name=task.name)
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # the log is ours: lines of one form
    scheduler.add_listener(_left_out, events.EVENT_JOB_MAX_INSTANCES | events.EVENT_JOB_MISSED)
    scheduler.start()
    _log.info("scheduling", tasks=[task.name for task in planned])
    try:
        while True:
            clock.sleep(_AWAKE_S)
    finally:
        _log.info("ending")
        scheduler.pause()
        runner.stop()
        scheduler.shutdown(wait=True)


def _left_out(event: Any) -> None:
    why = "it was too late" if event.code == events.EVENT_JOB_MISSED else "the run before it still goes on"
    _log.warning("run left out", task=event.job_id, reason=why)


def _trigger(times: cron.Times, zone: ZoneInfo) -> CronTrigger:
    fields = (times.minutes, times.hours, times.days, times.months, times.weekdays)
    names = ("minute", "hour", "day", "month", "day_of_week")
    return CronTrigger(
        **{name: ",".join(map(str, field)) for name, field in zip(names, fields, strict=True)},
        second=0,
        timezone=zone,
    )
