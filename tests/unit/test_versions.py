"""The path between two versions: what the vendor allows, and what cannot be judged."""

from __future__ import annotations

import pytest

from dr_toolkit.cluster.replicas import Workload, read_record, record
from dr_toolkit.jobs import platform_gate, versions
from dr_toolkit.jobs.platform_gate import Revision, release, version_of


@pytest.mark.parametrize(
    ("current", "wanted", "state", "word"),
    [
        ("1.46.0", "1.48.0", "ok", "2 minor versions"),
        ("1.46.3", "1.46.9", "ok", "0 minor versions"),
        ("1.45.0", "1.48.0", "failed", "3 minor versions"),
        ("v1.48.0", "1.47.2", "failed", "a step back"),
        ("1.48.0", "2.0.0", "unknown", "major"),
        ("latest", "1.48.0", "unknown", "latest"),
        ("1.46.0", "console-1.30.0", "unknown", "is a chart"),
    ],
)
def test_no_more_than_two_minor_versions_at_a_time(current, wanted, state, word):
    """A step too far names the version between; a chart's own number says nothing of the application's."""
    found = versions.path(current, wanted)
    assert (found.state, word in found.text) == (state, True)
    if word == "3 minor versions":
        assert found.hint == "upgrade to 1.47.x first"


def test_after_the_upgrade_the_version_must_be_there():
    """An old pod that still answers is no upgrade."""
    assert versions.arrived("1.48.0", "v1.48.0").state == "ok"
    assert versions.arrived("1.46.0", "1.48.0").state == "failed"
    assert versions.arrived("latest", "1.48.0").state == "unknown"


@pytest.mark.parametrize(
    ("revisions", "state"),
    [
        ([], "failed"),
        ([Revision(9, "superseded"), Revision(10, "deployed")], "ok"),
        ([Revision(1, "deployed"), Revision(2, "pending-upgrade")], "failed"),
        ([Revision(1, "superseded"), Revision(2, "failed")], "failed"),
    ],
)
def test_only_a_deployed_newest_revision_is_fine(revisions, state):
    """A pending revision is an operation that runs or died, whatever the revision before it is."""
    assert release("console", revisions).state == state


def test_the_version_is_the_image_s_before_the_label_s():
    """A registry with a port and a digest do not confuse it; without a tag the chart's label counts."""

    def found(image: str) -> Workload:
        labels = {"app.kubernetes.io/version": "1.40.0"}
        return Workload("deployment", "n", "x", 1, 1, None, "", {}, labels, (image,), "1", settled=True)

    assert version_of([found("registry.invalid:5000/conduktor/console:1.46.0@sha256:ab")]) == "1.46.0"
    assert version_of([found("registry.invalid:5000/conduktor/console@sha256:ab")]) == "1.40.0"
    assert version_of([]) == ""


def test_a_record_of_replicas_survives_and_nonsense_does_not():
    """What was at zero before is not in it, so that nobody wakes what a person put to rest."""
    assert read_record(record({"deployment/a": 3, "deployment/b": 0})) == {"deployment/a": 3}
    assert [read_record(text) for text in (None, "", "[1]", "{", '{"a": "x"}')] == [{}] * 5


@pytest.mark.parametrize(
    ("revisions", "state"),
    [
        ([Revision(1, "deployed"), Revision(2, "pending-upgrade")], "ok"),
        ([Revision(1, "deployed"), Revision(2, "failed"), Revision(3, "pending-upgrade")], "ok"),
        ([Revision(1, "deployed"), Revision(2, "pending-upgrade"), Revision(3, "pending-upgrade")], "failed"),
        ([Revision(1, "failed"), Revision(2, "pending-upgrade")], "failed"),
        ([Revision(1, "deployed")], "failed"),
    ],
)
def test_in_helms_hook_the_pending_revision_is_the_upgrade_itself(revisions, state):
    """It must be there, over a deployed one, and be the only one; the failed one that an earlier NO-GO left does not block for ever."""
    assert platform_gate.release("console", revisions, hook=True).state == state
