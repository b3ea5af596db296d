"""The gate's judgement: a pure function of what was looked at."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from dr_toolkit import errors
from dr_toolkit.jobs import deadline, gate, postgres_gate, pre_upgrade
from dr_toolkit.jobs.gate import Check
from dr_toolkit.jobs.post_upgrade import less
from dr_toolkit.postgres.upgrade_facts import UpgradeFacts

PROVEN = Check("proof", "db", "ok", "restored")
UNKNOWN_SPACE = Check("space", "db", "unknown", "the disk cannot be seen")


def facts(**changed) -> UpgradeFacts:
    plain = {
        "sees_all": True, "long": (), "behind": (), "failed": (), "migrating": (), "hidden": (), "newest": ("public: version 1",),
        "database_bytes": 1000,
    }  # fmt: skip
    return UpgradeFacts(**(plain | changed))


def states(found: UpgradeFacts, free: int | None = 10_000) -> dict[str, str]:
    return {check.name: check.state for check in postgres_gate.judge("db", found, free)}


def test_go_needs_a_proof_of_every_component():
    """A component of which nothing is said is a reason, and so is having none at all."""
    assert gate.decide([PROVEN], ["db"]).go
    verdict = gate.decide([PROVEN], ["db", "cortex"])
    assert (verdict.go, [c.component for c in verdict.reasons]) == (False, ["cortex"])
    assert not gate.decide([], []).go


def test_what_could_not_be_checked_is_no_go_until_it_is_accepted():
    """The acceptance is part of the verdict."""
    checks = [PROVEN, UNKNOWN_SPACE]
    assert gate.decide(checks, ["db"]).reasons == (UNKNOWN_SPACE,)
    accepted = gate.decide(checks, ["db"], ["space"])
    assert (accepted.go, accepted.accepted) == (True, (UNKNOWN_SPACE,))


@pytest.mark.parametrize("name", sorted(gate.NEVER_ACCEPTED))
def test_the_way_back_cannot_be_waived(name):
    """Neither in the judgement nor on the command line."""
    assert not gate.decide([PROVEN, Check(name, "db", "failed", "no")], ["db"], [name]).go
    with pytest.raises(errors.UsageError, match="cannot be accepted"):
        pre_upgrade.check_accepted([name])


def test_an_unknown_check_is_a_usage_error():
    """A misspelt acceptance is not one that silently accepts nothing."""
    with pytest.raises(errors.UsageError, match="is no check") as caught:
        pre_upgrade.check_accepted(["spaces"])
    assert "space" in caught.value.hint


def test_reasons_come_in_the_order_of_their_weight():
    """The lost proof first, the full disk last, and a failure before what is only not known."""
    checks = [
        UNKNOWN_SPACE,
        Check("space", "a", "failed", "full"),
        Check("repository", None, "failed", "damaged"),
        Check("proof", "db", "failed", "differs"),
    ]
    reasons = gate.decide(checks, ["db"]).reasons
    assert [(c.name, c.state) for c in reasons] == [
        ("proof", "failed"),
        ("repository", "failed"),
        ("space", "failed"),
        ("space", "unknown"),
    ]


@pytest.mark.parametrize(
    ("changed", "free", "expected"),
    [
        ({}, 10_000, {}),
        ({"sees_all": False}, 10_000, {"transactions": "unknown", "replication": "unknown"}),
        ({"long": ("pid 7",)}, 10_000, {"transactions": "failed"}),
        ({"behind": ("pg-2",)}, 10_000, {"replication": "failed"}),
        ({"failed": ("public: version 2",)}, 10_000, {"migrations": "failed"}),
        ({"migrating": (7,)}, 10_000, {"migrations": "failed"}),
        ({"hidden": ("x.flyway_schema_history",)}, 10_000, {"migrations": "unknown"}),
        ({}, None, {"space": "unknown"}),
        ({}, 1199, {"space": "failed"}),
    ],
)
def test_each_fact_of_a_server_has_its_consequence(changed, free, expected):
    """One thing is wrong at a time; everything else stays fine."""
    fine = dict.fromkeys(("transactions", "replication", "migrations", "space"), "ok")
    assert states(facts(**changed), free) == fine | expected


def test_a_deadline_ends_what_waits_and_leaves_nothing_behind():
    """The block is left in time, by the way of an interruption; work that is done in time is not disturbed later."""
    began = time.monotonic()
    with pytest.raises(deadline.Expired), deadline.limit(0.05):
        time.sleep(20)
    assert time.monotonic() - began < 10
    with deadline.limit(0.05):
        pass
    time.sleep(0.1)
    assert issubclass(deadline.Expired, errors.Interrupted)


def test_fewer_rows_are_named():
    """More rows and new tables are what an upgrade may bring; less is not."""
    assert less({"a": 3, "b": 2, "c": 1}, {"a": 2, "b": 5, "d": 9}) == [
        "a has 2 rows, and had 3",
        "c is gone (1 row)",
    ]
    assert less({"a": 3}, {"a": 3}) == []


def test_only_a_fresh_passed_proof_of_the_same_snapshot_is_taken_over():
    """The last word counts: a failure after a success is not a proof, nor is one that is too old."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    report = SimpleNamespace(request=SimpleNamespace(reuse=timedelta(hours=1)), moment=now)
    found = SimpleNamespace(id="x", header=SimpleNamespace(component="db"))

    def proof(minutes: int, result: str, level: str = "restore"):
        moment = (now - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return SimpleNamespace(time=moment, result={"level": level, "result": result, "seconds": 2.5})

    def known(*proofs, key=("db", "x")):
        return pre_upgrade._known_proof(found, SimpleNamespace(evidence={key: list(proofs)}), report)

    assert known(proof(5, "passed")) == 2.5
    assert known(proof(61, "passed")) is None
    assert known(proof(20, "passed"), proof(5, "failed")) is None
    assert known(proof(5, "passed", level="data")) is None
    assert known(proof(5, "passed"), key=("db", "other")) is None
