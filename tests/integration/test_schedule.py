"""``drctl schedule`` as a process: snapshots when they are due, and a clean end."""

from __future__ import annotations

import signal

import pytest

from dr_toolkit.jobs import schedule
from tests.integration.test_gate import Site, drop
from tests.unit.test_schedule import run_for


@pytest.fixture
def site(tmp_path, postgres):
    found = Site(tmp_path, postgres)
    yield found
    drop(found)


def test_what_is_due_is_backed_up(site, monkeypatch):
    """The scheduler starts the real drctl with the configuration at hand, again and again; the snapshots are there and good."""
    monkeypatch.setenv("DB", site.environment["DB"])
    monkeypatch.setenv("ADMIN", site.environment["ADMIN"])
    task = schedule.Task("backup", "console-db", "* * * * *", "UTC")
    run_for(6.0, schedule.Runner(schedule.command_of(site.config)), [task], every=1.0)
    taken = site.json("snapshots")["snapshots"]
    assert taken
    assert {s["status"] for s in taken} == {"good"}


def test_it_says_what_is_due_and_ends_on_a_signal(site):
    """The plan names the next times; the process waits, and SIGTERM ends it with code 143."""
    site.config.write_text(
        site.config.read_text().replace(
            "kind: postgres-dump", 'kind: postgres-dump\n    schedule: "0 0 1 1 *"'
        )
    )
    planned = site.json("schedule", "--dry-run")["tasks"]
    assert [(t["task"], len(t["next"])) for t in planned] == [("backup console-db", 3)]
    process = site.start("schedule")
    assert process.stderr is not None
    for line in process.stderr:
        if "scheduling" in line:
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_without_a_schedule_there_is_nothing_to_do(site):
    """A process that would wait for ever and do nothing is an error, at once."""
    done = site.run("schedule")
    assert (done.returncode, "no schedule is configured" in done.stderr) == (1, True)
