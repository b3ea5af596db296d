"""``drctl drill``: a whole point comes back into scratch, timed; nothing live is touched; what does not come back is named."""

from __future__ import annotations

import pytest

from tests.integration.test_platform_restore import damage, state
from tests.integration.test_platform_restore import site as site  # noqa: PLC0414  # a fixture

ORDER = ["console-db", "sql-db", "cortex"]


def test_a_drill_restores_everything_and_keeps_its_timings(site):
    """The newest whole point, in the order of an incident, touches nothing live; it is each snapshot's proof, status' RTO and the history."""
    assert site.run("drill").returncode == 1  # nothing was ever backed up
    site.json("backup", "--point", "first")
    damage(site)
    before = state(site)
    planned = site.json("drill", "--dry-run")["plan"]
    assert (planned["name"], [s["component"] for s in planned["snapshots"]]) == ("first", ORDER)
    assert site.json("drill", "--history")["drills"] == []
    done = site.json("drill")["drill"]
    assert (done["passed"], [r["component"] for r in done["results"]], state(site)) == (True, ORDER, before)
    [past] = site.json("drill", "--history")["drills"]
    assert (past["name"], past["passed"], past["expected"], past["seconds"]) == (
        "first",
        True,
        3,
        done["seconds"],
    )
    status = site.json("status")
    assert status["last_drill"]["seconds"] == past["seconds"]
    measured = {c["component"]: c["rto_measured_seconds"] for c in status["components"]}
    assert measured == {c["component"]: c["seconds"] for c in past["components"]}
    assert all(p["proven"] for p in site.json("restore")["points"])
    site.json("backup", "console-db")  # newer, and no point: a drill of a time takes it
    time_of = max(s["time"] for s in site.json("snapshots")["snapshots"])
    again = site.json("drill", "--at", time_of)["drill"]
    assert (again["passed"], again["spread_seconds"] > 0) == (True, True)
    assert len(site.run("drill", "--history").stdout.splitlines()) == 3
    assert "last drill" in site.run("status").stdout


@pytest.mark.parametrize("what", ["damaged", "no room"])
def test_what_does_not_come_back_is_named_and_the_rest_is_tried(site, what, tmp_path):
    """A damaged snapshot is a failed proof, code 3; a machine that cannot run scratch says nothing about the data, and leaves no evidence."""
    site.json("backup", "--point", "first")
    if what == "damaged":
        packs = sorted(
            (p for p in (site.root / "repository/packs").rglob("*") if p.is_file()),
            key=lambda p: p.stat().st_mtime_ns,
        )
        content = bytearray(packs[1].read_bytes())
        content[len(content) // 2] ^= 1
        packs[1].chmod(0o600)
        packs[1].write_bytes(content)
        done = site.json("drill", code=3)["drill"]
        assert [(r["component"], r["result"]) for r in done["results"]] == [
            ("console-db", "passed"), ("sql-db", "failed"), ("cortex", "passed"),
        ]  # fmt: skip
        assert "packs/" in done["results"][1]["failures"][0]
        assert "FAILED" in site.run("drill", "--history").stdout
        return
    (tmp_path / "empty").mkdir()
    with site.config.open("a") as file:
        file.write(f"verify: {{programs: {tmp_path}/empty}}\n")
    done = site.json("drill", code=1)["drill"]
    assert [r["component"] for r in done["results"]] == ["cortex"]
    assert [f["component"] for f in done["failures"]] == ["console-db", "sql-db"]
    [past] = site.json("drill", "--history")["drills"]
    assert (past["passed"], past["expected"], len(past["components"])) == (False, 3, 1)
    assert all(c["proven"] is None for c in site.json("status")["components"][:2])
