"""What a restored cluster is to do when it is started: asked on the command line, written into its files."""

from pathlib import Path

import pytest

from dr_toolkit import errors
from dr_toolkit.postgres import base_recovery
from dr_toolkit.postgres.base_recovery import Recovery
from dr_toolkit.postgres.connection import ConnectionSettings

SOURCE = ConnectionSettings((("db one", 5433),), "postgres", "o'brien", "secret", "verify-full", "/ca.pem")


def asked(*given: str, standby: bool = False) -> Recovery | None:
    return base_recovery.asked(standby=standby, given=given, source=SOURCE)


def test_a_standby_follows_the_source_unless_told_otherwise():
    """The way there has no password in it."""
    assert asked() is None
    follows = "host='db one' port=5433 sslmode=verify-full sslrootcert=/ca.pem user='o\\'brien'"
    assert asked(standby=True) == Recovery("standby.signal", (("primary_conninfo", follows),))
    other = asked("primary_conninfo=host=elsewhere", "primary_slot_name=s", standby=True)
    assert other == Recovery(
        "standby.signal", (("primary_conninfo", "host=elsewhere"), ("primary_slot_name", "s"))
    )
    shipped = asked("restore_command=cp /a/%f %p", standby=True)
    assert shipped == Recovery("standby.signal", (("restore_command", "cp /a/%f %p"),))


@pytest.mark.parametrize(
    ("given", "standby", "word"),
    [
        (["work_mem=1GB"], False, "no setting of a recovery"),
        (["restore_command"], False, "no setting of a recovery"),
        (["recovery_target_time=2026-01-01"], False, "where older WAL comes from"),
        (["restore_command=x", "primary_slot_name=s"], False, "follows another"),
        (["primary_conninfo=host=a password=b"], True, "command line"),
        (["restore_command=x", "recovery_target_lsn=0/1", "recovery_target_xid=5"], False, "only one target"),
        (["restore_command=x\nfsync=off"], False, "line break"),
    ],
)
def test_what_does_not_fit_is_refused(given: list[str], standby: bool, word: str):
    """Each with its reason, before anything starts."""
    with pytest.raises(errors.UsageError, match=word):
        asked(*given, standby=standby)


def test_settings_are_written_so_that_no_older_target_counts(tmp_path: Path):
    """Behind what is there, quoted, with the targets of an earlier recovery switched off, and one signal only."""
    (tmp_path / "postgresql.auto.conf").write_text("recovery_target_name = 'old'\n")
    (tmp_path / "standby.signal").touch()
    wanted = Recovery(
        "recovery.signal", (("restore_command", "cp '/a b/%f' \\x %p"), ("recovery_target_lsn", "0/1"))
    )
    base_recovery.write(tmp_path, wanted)
    lines = (tmp_path / "postgresql.auto.conf").read_text().splitlines()
    assert lines[0] == "recovery_target_name = 'old'"
    assert "recovery_target_name = ''" in lines
    assert "recovery_target_lsn = '0/1'" in lines
    assert "restore_command = 'cp ''/a b/%f'' \\\\x %p'" in lines
    assert sorted(path.name for path in tmp_path.iterdir()) == ["postgresql.auto.conf", "recovery.signal"]
