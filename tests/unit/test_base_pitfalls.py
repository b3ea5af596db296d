"""Which test shows what: the pitfalls of increments, what servers are known to do wrong, and the damage that a cluster's backup must bear.

A table that names tests goes stale in silence; this one fails when a test that it names is gone.
"""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
UNIT, PURE = "unit/test_base_increment.py", "unit/test_base.py"
INCREMENT, BUGS = "integration/test_base_increment.py", "integration/test_increment_bugs.py"
BACKUP, WAL, RECOVERY = (f"integration/test_base_{name}.py" for name in ("backup", "wal", "recovery"))
COUNTS, MEANWHILE, KILLED, MATRIX = (
    "integration/test_base_counts.py",
    "integration/test_base_meanwhile.py",
    "faults/test_base_killed.py",
    "matrix/test_versions.py",
)

PITFALLS = {
    "blocks at or above the truncation are not the parent's, and none is above a segment": [
        (UNIT, "test_how_a_file_is_rebuilt"), (UNIT, "test_a_head_that_is_wrong_is_not_used"), (BUGS, "test_what_was_deleted_stays_deleted")],
    "a hole beyond the parent's end is zero": [(UNIT, "test_how_a_file_is_rebuilt"), (UNIT, "test_files_are_laid_over_by_the_write_role")],
    "new files come whole, dropped ones vanish, and what changed its number meanwhile is right only after recovery": [
        (UNIT, "test_files_are_laid_over_by_the_write_role"), (INCREMENT, "test_every_snapshot_is_a_full_one"),
        (INCREMENT, "test_a_number_that_is_used_again"), (MEANWHILE, "test_files_that_are_cut_dropped_or_made_while_they_are_sent"), (COUNTS, "test_a_busy_cluster_is_never_called_wrong")],
    "a file that comes whole and as an increment is an error": [(UNIT, "test_a_file_that_comes_twice_is_an_error")],
    "free space maps come whole, and so do visibility maps": [(INCREMENT, "test_against_pg_combinebackup"), (BUGS, "test_what_was_deleted_stays_deleted")],
    "a file of which nearly all changed comes whole": [(INCREMENT, "test_every_snapshot_is_a_full_one")],
    "block numbers are a segment's, limits a relation's": [
        (UNIT, "test_what_a_path_is"), (UNIT, "test_limits_count_over_segments"), (MATRIX, "test_a_restored_cluster_holds_what_the_source_holds")],
    "a file that is cut while it is sent is padded": [(MEANWHILE, "test_files_that_are_cut_dropped_or_made_while_they_are_sent"), (COUNTS, "test_a_busy_cluster_is_never_called_wrong")],
    "the manifest is kept as the server wrote it, and written anew for a restored cluster": [
        (UNIT, "test_manifests_are_written_as_postgresql_reads_them"), (UNIT, "test_the_restored_manifest_has_sums_of_what_was_restored")],
    "tablespaces": [(INCREMENT, "test_tablespaces_are_refused"), (PURE, "test_links_and_foreign_bytes_are_refused")],
    "another timeline, or one that the server does not know": [
        (INCREMENT, "test_a_promoted_primary_is_read_whole"), (INCREMENT, "test_what_a_server_says_that_has_no_increment")],
    "an idle standby has no increment": [(RECOVERY, "test_a_standby_follows_its_primary"), (INCREMENT, "test_what_a_server_says_that_has_no_increment")],
    "summaries that are missing, or cannot be read": [(INCREMENT, "test_what_an_increment_lacks_makes_a_full_read"), (UNIT, "test_summaries_must_cover_everything")],
    "checksums that were switched between two backups": [(INCREMENT, "test_checksums_that_were_switched_make_a_full_read")],
    "another version, page size, segment size or cluster": [(UNIT, "test_a_cluster_is_read_whole_for_a_reason")],
    "the label's two lines, and files that must not come back": [
        (INCREMENT, "test_against_pg_combinebackup"), (PURE, "test_signals_and_odd_permissions_do_not_come_back")],
    "a snapshot is there only when everything that it refers to is, and two on one parent are good": [
        (KILLED, "test_killed_before_the_commit"), (INCREMENT, "test_two_increments_on_one_parent_are_both_good"), (INCREMENT, "test_what_an_increment_lacks_makes_a_full_read")],
    "the oracle: the same streams through pg_combinebackup": [(INCREMENT, "test_against_pg_combinebackup")],
}  # fmt: skip

KNOWN_BUGS = {
    "a truncation of more than a segment (17.0-17.7, 18.0-18.1)": [
        (UNIT, "test_a_head_that_is_wrong_is_not_used"), (UNIT, "test_a_cluster_is_read_whole_for_a_reason")],
    "visibility maps: limit of the main fork, bits that were cleared, the tail of a cut one": [(BUGS, "test_what_was_deleted_stays_deleted")],
    "cut by VACUUM, grown again by COPY": [(BUGS, "test_what_was_deleted_stays_deleted"), (BUGS, "test_row_counts_find_what_the_files_do_not_show")],
    "cut, and written after a checkpoint": [(BUGS, "test_what_was_written_after_a_cut_is_there"), (UNIT, "test_blocks_that_an_increment_lacks_are_found")],
    "a standby that was promoted": [(INCREMENT, "test_a_promoted_primary_is_read_whole")],
    "a database that was made by copying files": [(INCREMENT, "test_every_snapshot_is_a_full_one")],
}  # fmt: skip

DAMAGE = {
    "kill -9 at each stage": [(BACKUP, "test_killed_in_the_middle"), (KILLED, "test_killed_before_the_commit"), (KILLED, "test_killed_after_the_commit"), (KILLED, "test_a_killed_restore_goes_on")],
    "kill -9 in the middle of an overlay": [(INCREMENT, "test_killed_in_the_middle_of_an_overlay")],
    "server restarted, or killed, in the middle": [(WAL, "test_a_restarted_server_ends_the_backup"), (BACKUP, "test_killed_in_the_middle")],
    "WAL removed on the server before the end": [(WAL, "test_wal_that_the_server_removed_is_missed")],
    "a slot that cannot be made": [(WAL, "test_a_slot_that_cannot_be_made")],
    "a full pg_wal": [(WAL, "test_a_full_pg_wal"), (WAL, "test_a_backup_ends_before_the_disk_is_full")],
    "a primary promoted between two backups": [(INCREMENT, "test_a_promoted_primary_is_read_whole")],
    "a table truncated, a database dropped, VACUUM FULL, a relation rewritten": [(INCREMENT, "test_every_snapshot_is_a_full_one"), (COUNTS, "test_a_busy_cluster_is_never_called_wrong")],
    "a block flipped on the server's disk": [(BACKUP, "test_damaged_pages_are_kept_and_never_chosen")],
    "random work, and every snapshot restored": [(INCREMENT, "test_random_work_comes_back_at_every_time")],
    "a recovery that ends short": [(BACKUP, "test_a_short_recovery_is_refused")],
    "an increment that is wrong, and an audit": [("integration/test_base_audit.py", "test_an_audit_finds_what_increments_had_wrong")],
    "a damaged snapshot as a tar": [(BACKUP, "test_a_damaged_snapshot_gives_no_whole_tar"), (PURE, "test_a_broken_archive_is_known_as_one")],
}  # fmt: skip


@pytest.mark.parametrize("table", [PITFALLS, KNOWN_BUGS, DAMAGE], ids=["pitfalls", "known-bugs", "damage"])
def test_every_test_that_is_named_is_there(table: dict[str, list[tuple[str, str]]]) -> None:
    """Nothing is claimed that no test shows."""
    missing = [
        (what, file, name)
        for what, shown in table.items()
        for file, name in shown
        if not re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE)
    ]
    assert missing == []
    assert all(table.values())


def test_none_of_the_pitfalls_is_left_out() -> None:
    """There are eighteen."""
    assert len(PITFALLS) == 18
