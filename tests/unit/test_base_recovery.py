"""What a restored cluster is to do when it is started: asked on the command line, written into its files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dr_toolkit import errors
from dr_toolkit.postgres import base_recovery
from dr_toolkit.postgres.base_recovery import Recovery
from dr_toolkit.postgres.base_start import Target
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


TARGET = Target((1 << 32) | 0x2000100, 3, "postgres", 0, datetime(2026, 11, 25, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("setting", "refused"),
    [
        ("recovery_target_lsn=1/20000FF", True),
        ("recovery_target_lsn=1/2000100", False),
        ("recovery_target_lsn=nonsense", False),
        ("recovery_target_time=2026-11-25 11:59:59+00", True),
        ("recovery_target_time=2026-11-25T13:30:00+02:00", True),
        ("recovery_target_time=2026-11-25 12:00:00+00", False),
        ("recovery_target_time=2026-11-24 23:59:59", True),
        ("recovery_target_time=2026-11-25 11:00:00", False),
        ("recovery_target_time=yesterday", False),
        ("recovery_target_timeline=2", True),
        ("recovery_target_timeline=latest", False),
    ],
)
def test_a_target_before_the_snapshots_end_is_refused(setting: str, refused: bool) -> None:
    """PostgreSQL would say so hours later, or recover onto another timeline. What only the server can understand is left to it."""
    wanted = asked("restore_command=x", setting)
    assert wanted is not None
    if not refused:
        base_recovery.check(wanted, TARGET)
        return
    with pytest.raises(errors.UsageError, match="before what a recovery of this snapshot must reach"):
        base_recovery.check(wanted, TARGET)


def test_a_snapshot_without_a_time_bounds_none() -> None:
    """Older snapshots have none."""
    source: dict[str, object] = {
        "base": {"end_lsn": "0/10", "timeline": 1, "superuser": "p", "max_prepared_transactions": 0}
    }
    target = Target.of(source)
    assert target.time is None
    wanted = asked("restore_command=x", "recovery_target_time=2001-01-01 00:00:00+00")
    assert wanted is not None
    base_recovery.check(wanted, target)
    source["base"] = {**source["base"], "time": "2026-11-25T12:00:00Z"}  # type: ignore[dict-item]
    with pytest.raises(errors.UsageError, match="2026-11-25T12:00:00Z"):
        base_recovery.check(wanted, Target.of(source))
