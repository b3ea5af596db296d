"""What a person reads: ids, facts and errors, short enough for a terminal and told once."""

import io

import pytest

from dr_toolkit import log
from dr_toolkit.jobs import kinds
from dr_toolkit.jobs.findings import Finding
from dr_toolkit.postgres import scratch_roles
from dr_toolkit.reporting import doctor_text, restores, text

EARLY, LATE, SAME = (
    "20261125T184948Z-427f938729aa20ea142a31fd01e2a0ff",
    "20261125T184949Z-5b2d541fa53395bcce36122f4c05fcd3",
    "20261125T184949Z-00aa541fa53395bcce36122f4c05fcd3",
)


def test_ids_are_as_short_as_they_can_be():
    """The time alone where it is unique in the list, else the beginning of what is random as well."""
    assert text.short_ids([EARLY, LATE]) == {EARLY: "20261125T184948Z", LATE: "20261125T184949Z"}
    both = text.short_ids([EARLY, LATE, SAME])
    assert both == {EARLY: "20261125T184948Z", LATE: "20261125T184949Z-5b2d", SAME: "20261125T184949Z-00aa"}
    assert all(full.startswith(shown) for full, shown in both.items())


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("standby", False, "no"),
        ("standby", None, "unknown"),
        ("database_bytes", 21509823, "20.5 MiB"),
        ("extensions", {"count": 0, "names": []}, "none"),
        ("extensions", {"count": 1, "names": ["plpgsql 1.0"]}, "plpgsql 1.0"),
        ("extensions", {"count": 3, "names": ["a", "b"]}, "a, b, …"),
        ("role", {"name": "drctl_backup", "superuser": False}, "name drctl_backup, superuser no"),
        ("flyway", [{"version": "112"}, {"version": "9"}], "version 112; version 9"),
        ("flyway", [], "none"),
    ],
)
def test_facts_are_words(key, value, shown):
    """No brackets and braces of Python's."""
    assert text._fact(key, value) == shown


@pytest.mark.parametrize(("form", "verbosity", "told"), [("text", 0, 0), ("text", 1, 1), ("json", 0, 1)])
def test_what_the_answer_says_is_not_said_twice(form, verbosity, told):
    """A person reads a failure in the answer; a log in JSON has it as an error, and so does -v."""
    stream = io.StringIO()
    log.configure(form, verbosity, stream)
    log.get("jobs.backup").answered("backup failed", component="console-db")
    assert stream.getvalue().count("backup failed") == told
    assert stream.getvalue().count("error") >= told


@pytest.mark.parametrize(
    ("statement", "made"),
    [
        ("GRANT a TO b WITH INHERIT TRUE GRANTED BY postgres;", "GRANT a TO b WITH INHERIT TRUE;"),
        ('GRANT a TO b GRANTED BY "od""d";', "GRANT a TO b;"),
        ('GRANT "x GRANTED BY y" TO b;', 'GRANT "x GRANTED BY y" TO b;'),
    ],
)
def test_who_granted_a_role_does_not_matter_on_a_scratch_server(statement, made):
    """Only the source's own superuser could say it again."""
    assert scratch_roles._GRANTED_BY.sub("", statement) == made


@pytest.mark.parametrize("kind", kinds.known())
def test_a_restore_of_every_kind_can_be_shown(kind):
    """A whole recovery point is restored by the kinds of its snapshots, and each has its plan and its answer."""
    view = restores.view_of(kind)
    for part in ("replaces", "plan", "plan_document", "done", "done_document"):
        assert callable(getattr(view, part))


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("s3://cortex at http://s3 refused", "source: cortex: s3://cortex at"),
        ("cortex: s3://cortex is reached", "source: cortex: s3://cortex is"),
        ('"cortex" has no snapshot', 'source: "cortex" has'),
    ],
)
def test_doctor_names_what_it_is_about_once(what, shown):
    """A bucket called as its component does not stand for it."""
    assert shown in doctor_text.text([Finding("failed", "source", what, on="cortex")])
