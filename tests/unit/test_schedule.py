"""When scheduled runs are due: cron's rules, time zones, and what a run that fails or takes long means for the next."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from dr_toolkit import errors, log
from dr_toolkit.jobs import cron, schedule
from dr_toolkit.jobs.schedule import Runner, Task

START = datetime(2026, 11, 24, 12, 0, 30, tzinfo=UTC)  # a Tuesday


def due(expression: str, zone: str = "UTC", start: datetime = START, count: int = 3) -> list[str]:
    task = Task("backup", "db", expression, zone)
    return [t.strftime("%a %d %b %H:%M %z") for t in schedule.next_times(task, start, count)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("15 * * * *", ["Tue 24 Nov 12:15 +0000", "Tue 24 Nov 13:15 +0000"]),
        ("*/20 13 * * *", ["Tue 24 Nov 13:00 +0000", "Tue 24 Nov 13:20 +0000", "Tue 24 Nov 13:40 +0000"]),
        ("0 4 * * 0", ["Sun 29 Nov 04:00 +0000", "Sun 06 Dec 04:00 +0000"]),
        ("0 4 * * 7", ["Sun 29 Nov 04:00 +0000", "Sun 06 Dec 04:00 +0000"]),
        ("0 4 * * sun", ["Sun 29 Nov 04:00 +0000"]),
        ("0 4 * * 1-5", ["Wed 25 Nov 04:00 +0000", "Thu 26 Nov 04:00 +0000", "Fri 27 Nov 04:00 +0000", "Mon 30 Nov 04:00 +0000"]),
        ("0 4 1 * mon", ["Mon 30 Nov 04:00 +0000", "Tue 01 Dec 04:00 +0000", "Mon 07 Dec 04:00 +0000"]),
        ("0 0 1 jan *", ["Fri 01 Jan 00:00 +0000"]),
        ("5/25 0 * * *", ["Wed 25 Nov 00:05 +0000", "Wed 25 Nov 00:30 +0000", "Wed 25 Nov 00:55 +0000"]),
        ("*/90 0 * * *", ["Wed 25 Nov 00:00 +0000", "Thu 26 Nov 00:00 +0000"]),
    ],
)  # fmt: skip
def test_cron_means_what_cron_means(expression, expected):
    """Weekdays count from Sunday, 7 is Sunday too, and where both days are restricted either is enough."""
    assert due(expression, count=len(expected)) == expected


def test_times_are_those_of_the_time_zone():
    """Two in the morning in Paris is one o'clock UTC in winter and midnight in summer."""
    summer = datetime(2026, 6, 30, 12, tzinfo=UTC)
    assert due("0 2 * * *", "Europe/Paris", count=1) == ["Wed 25 Nov 02:00 +0100"]
    assert due("0 2 * * *", "Europe/Paris", summer, 1) == ["Wed 01 Jul 02:00 +0200"]


def test_an_hour_that_the_clock_skips_is_not_a_night_without_a_backup():
    """On the night of the change 02:30 does not exist: the run is made at another time, not left out."""
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)
    days = [text[:6] for text in due("30 2 * * *", "Europe/Paris", before, 3)]
    assert days == ["Sun 29", "Mon 30", "Tue 31"]


def test_numbers_are_cron_s():
    """A word, a list, a span and a step, each once."""
    [times] = cron.parse("0,30 8-10 * mar,oct */3")
    assert (times.minutes, times.hours, times.months) == ((0, 30), (8, 9, 10), (3, 10))
    assert times.weekdays == (2, 5, 6)  # Wednesday, Saturday, Sunday: cron's 3, 6, 0


def runner(code: str) -> Runner:
    """Runs that are a small program instead of drctl."""
    return Runner([sys.executable, "-c", textwrap.dedent(code)])


TASK = Task("backup", "db", "* * * * *", "UTC")


def run_for(seconds: float, found: Runner, tasks=(TASK,), every: float = 0.2, triggers=None) -> float:
    """Schedule until a signal; the time that ending took."""
    ended: list[float] = []

    def interrupt() -> None:
        ended.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)

    def stop(number, _frame):
        raise errors.Interrupted(number)

    before = signal.signal(signal.SIGTERM, stop)
    timer = threading.Timer(seconds, interrupt)
    try:
        timer.start()
        with pytest.raises(errors.Interrupted):
            schedule.run(tasks, found, triggers or [IntervalTrigger(seconds=every) for _ in tasks])
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGTERM, before)
    return time.monotonic() - ended[0]


def test_a_run_that_fails_does_not_end_the_schedule(tmp_path):
    """The next time comes all the same."""
    log = tmp_path / "log"
    run_for(4.0, runner(f"open({str(log)!r}, 'a').write('x'); raise SystemExit(5)"))
    assert len(log.read_text()) >= 2


class Slept(BaseTrigger):
    """Due every second of the last ten, as for a scheduler that was stopped, or whose machine slept, in that time; then never again."""

    def get_next_fire_time(self, previous, now):
        if previous is None:
            return now - timedelta(seconds=10)
        return previous + timedelta(seconds=1) if previous + timedelta(seconds=1) <= now else None


def test_what_was_missed_is_made_up_for_once(tmp_path):
    """Ten due times that nobody was awake for are one run, not ten after each other."""
    log = tmp_path / "log"
    run_for(2.5, runner(f"open({str(log)!r}, 'a').write('x')"), triggers=[Slept()])
    assert log.read_text() == "x"


def test_a_run_never_meets_itself_and_others_go_on(tmp_path, capsys):
    """A slow backup is not started twice, which is said; a second component is not kept waiting by it."""
    code = f"""
        import os, sys, time
        place = os.path.join({str(tmp_path)!r}, sys.argv[2])
        open(place, "a").write("x")
        time.sleep(60 if sys.argv[2] == "slow" else 0)
    """
    slow, quick = (Task("backup", name, "* * * * *", "UTC") for name in ("slow", "quick"))
    log.configure("json", 0, sys.stderr)
    run_for(4.0, runner(code), (slow, quick))
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert "backup slow" in {e["task"] for e in said if e["event"] == "run left out"}
    assert (tmp_path / "slow").read_text() == "x"
    assert len((tmp_path / "quick").read_text()) >= 2


def test_a_signal_ends_what_runs(tmp_path):
    """The run is asked to end and has ended before the schedule itself does; it is not waited for without end."""
    log = tmp_path / "log"
    code = f"""
        import signal, sys, time
        def stop(number, frame):
            open({str(log)!r}, "a").write("ended")
            sys.exit(143)
        signal.signal(signal.SIGTERM, stop)
        open({str(log)!r}, "a").write("begun ")
        time.sleep(100)
    """
    assert run_for(3.0, runner(code)) < 10
    assert log.read_text() == "begun ended"


def test_a_run_is_the_real_command_line():
    """What a task starts is a drctl that parses its own arguments."""
    command = [*schedule.command_of(None), "verify", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "--restore" in done.stdout) == (0, True)
    assert Task("verify", None, "* * * * *", "UTC").arguments() == ["verify", "--restore"]
    assert Task("drill", None, "* * * * *", "UTC").arguments() == ["drill"]
    assert TASK.arguments() == ["backup", "db"]
