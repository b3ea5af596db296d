"""Keys of each role alone, keys of somebody else, and keys that were rotated or rolled back."""

from __future__ import annotations

import base64
import os
import random
from typing import Any

import pytest

from dr_toolkit import errors
from dr_toolkit.repository import crypto, keyring, layout, repository
from dr_toolkit.repository.file_store import FileStore
from dr_toolkit.repository.memory_store import MemoryStore
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.snapshot import Snapshot
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import KeyFileRecipient, World, back_up, make_world, read_all

FIRST = layout.key_file_name(1, 1)
CONTENT = {"a": random.Random(5).randbytes(300_000), "b": b"small"}


def payload_of(world: World, name: str) -> dict[str, Any]:
    """What a signed document says."""
    return keyring.parse_json(world.store.get(name).partition(b"\n")[0], name)


def replace(world: World, name: str, body: bytes) -> None:
    world.store.delete(name)
    world.store.put(name, body)


def rotate(world: World, epoch: int, generation: int, earlier: list[Snapshot] | None = None) -> Repository:
    """Put a further key file, signed with the repository's key, as the read role makes it; the repository, opened again."""
    keys = world.repository.keys
    name, fields = layout.key_file_name(epoch, generation), payload_of(world, FIRST)
    fields |= {"epoch": epoch, "generation": generation}
    if epoch > 1:
        opened, id_key = os.urandom(crypto.OPEN_SECRET_SIZE), keys._secret(1, "catalog")[32:]
        public = crypto.OpenKey(opened).public_bytes()
        secrets = {"catalog": os.urandom(32) + id_key, "open": opened, "signing": keys._secret(1, "signing")}
        fields["public_key"] = base64.b64encode(public).decode()
        for stored, recipient in zip(fields["recipients"], (world.both, world.writer), strict=True):
            stored["wraps"] = {
                p: recipient.wrap(
                    secrets[p],
                    keyring.binding(
                        keys.identity.repository_id,
                        epoch,
                        p,
                        public,
                        keys.identity.signing_public,
                    ),
                )
                for p in stored["wraps"]
            }
        rows = [[s.header.component, s.id, s.digest_text] for s in earlier or []]
        fields["earlier"] = {"snapshots": rows}
    world.store.put(name, keys.sign("keys", name, fields))
    return repository.open_repository(world.store, [world.both], keys.identity.trust)


def entry(writer: SnapshotWriter, path: str, content: bytes) -> None:
    writer.begin(path, "table-data")
    writer.write(content)
    writer.end({})


# -- the write role ---------------------------------------------------------------------------------------------------


def test_the_write_role_has_one_wrap_and_asks_for_no_other():
    """Its recipient is in the key file with the catalog secret alone, and a whole backup unwraps nothing else."""
    world = make_world()
    (wraps,) = [r["wraps"] for r in world.repository.keys.current.recipients if r["name"] == "the-job"]
    assert set(wraps) == {"catalog"}
    back_up(world.as_writer(), CONTENT)
    assert set(world.writer.asked) == {wraps["catalog"]}


def test_the_write_role_opens_no_secret_of_the_read_role():
    """Even when it takes the wraps of others: its key does not open them."""
    world = make_world()
    (reader,) = [r for r in world.repository.keys.current.recipients if r["name"] == "people"]
    keys = world.repository.keys
    for purpose in ("open", "signing"):
        bound = keyring.binding(
            world.repository.repository_id,
            1,
            purpose,  # type: ignore[arg-type]
            keys.current.public_key,
            keys.identity.signing_public,
        )
        assert world.both.unwrap(reader["wraps"][purpose], bound)
        with pytest.raises(errors.KeyRefused):
            world.writer.unwrap(reader["wraps"][purpose], bound)


@pytest.mark.parametrize("purpose", ["keys", "evidence", "retired", "pin"])
def test_the_write_role_signs_nothing(purpose):
    """Neither key files nor evidence: it is refused, with the role that is needed in the hint."""
    opened = make_world().as_writer()
    with pytest.raises(errors.KeyRefused, match="signing key") as caught:
        opened.keys.sign(purpose, "x", {})
    assert "role read" in str(caught.value.hint)


def test_the_write_role_leaves_no_evidence():
    """A failed attempt stores nothing, and evidence that it seals with a key of its own does not count."""
    world = make_world()
    opened = world.as_writer()
    with pytest.raises(errors.KeyRefused):
        opened.add_evidence([{"result": "passed"}], "2026-01-01T00:00:00Z", "x")
    assert not list(world.store.list(layout.EVIDENCE))
    name = layout.evidence_name(layout.new_timed_id(world.clock.moment))
    line = keyring._payload(opened.repository_id, {"run": "r", "time": "t", "tool": "x", "results": []})
    opened._put_sealed(name, b"E", crypto.sign_document(os.urandom(32), "evidence", name, line))
    found, failures = world.repository.evidence()
    assert found == []
    assert [(f.on, f.fault) for f in failures] == [(name, "signature")]


def test_signed_evidence_counts_and_is_bound_to_its_name():
    """What the read role signed is found; the same object under another name is not."""
    world = make_world()
    run = world.repository.add_evidence([{"result": "passed"}], "2026-01-01T00:00:00Z", "x")
    found, failures = world.as_writer().evidence()
    assert [(e.run, e.result) for e in found] == [(run, {"result": "passed"})]
    assert failures == []
    moved = layout.evidence_name(layout.new_timed_id(world.clock.moment))
    world.store.put(moved, world.store.get(layout.evidence_name(run)))
    found, failures = world.repository.evidence()
    assert len(found) == 1
    assert [(f.on, f.fault) for f in failures] == [(moved, "commitment")]


def test_no_key_and_a_wrong_key_are_refused():
    """A recipient of the right name with another key, one of another name, and none at all."""
    world = make_world()
    back_up(world.as_writer(), CONTENT)
    for given in ([], [KeyFileRecipient("the-job")], [KeyFileRecipient("somebody")]):
        with pytest.raises(errors.KeyRefused):
            repository.open_repository(world.store, given, world.repository.keys.identity.trust)


# -- another public key -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgery", ["unsigned", "own-signature", "higher-generation", "next-epoch"])
def test_another_public_half_is_refused(forgery):
    """A thief with the write role puts a public half of its own into a key file, or adds one: no backup goes on under it."""
    world = make_world()
    back_up(world.as_writer(), CONTENT)
    fields = payload_of(world, FIRST)
    fields["public_key"] = base64.b64encode(
        crypto.OpenKey(os.urandom(crypto.OPEN_SECRET_SIZE)).public_bytes()
    ).decode()
    name = {
        "higher-generation": layout.key_file_name(1, 2),
        "next-epoch": layout.key_file_name(2, 1),
    }.get(forgery, FIRST)
    fields["epoch"], fields["generation"] = layout.parse_key_file_name(name) or (0, 0)
    line = keyring._payload(world.repository.repository_id, fields)
    signature = world.store.get(FIRST).partition(b"\n")[2]
    body = line + b"\n" + signature
    if forgery != "unsigned":
        body = crypto.sign_document(os.urandom(32), "keys", name, line)
    replace(world, name, body)
    with pytest.raises(errors.DataError) as caught:
        world.as_writer()
    assert (caught.value.fault, caught.value.on) == ("signature", name)


def test_a_new_identity_is_refused_by_the_pin():
    """``repository.json`` signed by somebody else verifies by itself; the pinned trust says no."""
    world = make_world()
    signing = os.urandom(32)
    fields = payload_of(world, layout.REPOSITORY)
    fields["signing_key"] = "ed25519:" + base64.b64encode(crypto.public_of(signing)).decode()
    line = keyring._payload(world.repository.repository_id, fields)
    replace(
        world,
        layout.REPOSITORY,
        crypto.sign_document(signing, "repository", layout.REPOSITORY, line),
    )
    with pytest.raises(errors.UntrustedKeys) as caught:
        world.as_writer()
    assert caught.value.fault == "trust"


def test_a_true_key_file_under_another_name_is_refused():
    """A signature is bound to the name: an old file cannot be put in place of a newer generation."""
    world = make_world()
    world.store.put(layout.key_file_name(1, 2), world.store.get(FIRST))
    with pytest.raises(errors.DataError) as caught:
        world.as_writer()
    assert caught.value.fault == "signature"


# -- rotation and rollback --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("epoch", "generation"), [(1, 2), (2, 1)])
def test_a_rolled_back_rotation_is_seen(epoch, generation):
    """One snapshot was made after it: without the key file that it names, no backup is sealed to the older keys."""
    world = make_world()
    rotate(world, epoch, generation)
    taken, _writer = back_up(world.as_writer(), CONTENT)
    name = layout.key_file_name(epoch, generation)
    world.store.delete(name)
    rolled_back = world.as_writer()
    found, failures = rolled_back.snapshots("console-db")
    assert found == []
    assert [f.fault for f in failures] == ["missing"]
    with pytest.raises(errors.ObjectMissing):
        SnapshotWriter(rolled_back, "console-db", "postgres-dump")
    assert [s.id for s in world.repository.snapshots("console-db")[0]] in ([], [taken.id])


def test_a_rotated_repository_goes_on():
    """What an earlier epoch stored and the rotation accepted is read, is a parent, and is not sent again."""
    world = make_world()
    first, _writer = back_up(world.as_writer(), CONTENT)
    opened = rotate(world, 2, 1, [first])
    second, writer = back_up(world.as_writer(), CONTENT | {"c": b"new"})
    assert second.header.parent == first.id
    assert second.header.keys[:2] == (2, 1)
    assert writer.bytes_new == len(b"new")
    assert read_all(opened, second) == CONTENT | {"c": b"new"}
    assert read_all(opened, first) == CONTENT


def test_a_snapshot_that_the_rotation_left_out_is_not_believed():
    """A thief's, made with the old epoch's keys before or after it: reported, and no parent."""
    world = make_world()
    old = world.as_writer()
    back_up(old, CONTENT)
    rotate(world, 2, 1, [])
    found, failures = world.as_writer().snapshots("console-db")
    assert (found, [f.fault for f in failures]) == ([], ["trust"])
    taken, writer = back_up(world.as_writer(), CONTENT)
    assert taken.header.parent is None
    assert writer.bytes_new == sum(map(len, CONTENT.values()))
    assert any("no later rotation" in warning for warning in taken.header.warnings)


def test_a_rotation_during_a_backup_stops_its_commit():
    """Its snapshot would be of an epoch that nobody believes any more."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        entry(writer, "a", b"1")
        rotate(world, 2, 1)
        with pytest.raises(errors.CommitRefused, match="epoch 2"):
            writer.commit({})
    assert not list(world.store.list(layout.SNAPSHOTS))


def test_packs_of_an_earlier_epoch_are_not_adopted():
    """A writer that the rotation removed may have left them."""
    world = make_world()
    with SnapshotWriter(world.as_writer(), "console-db", "postgres-dump") as writer:
        entry(writer, "a", CONTENT["a"])
        writer._pipeline.finish()
        writer._output.flush()
        writer._output.wait()
    assert len(list(world.store.list(layout.PACKS))) == 1
    rotate(world, 2, 1)
    _taken, again = back_up(world.as_writer(), {"a": CONTENT["a"]})
    assert again.bytes_new == len(CONTENT["a"])


# -- copies -----------------------------------------------------------------------------------------------------------


def test_a_copy_opens_elsewhere(tmp_path):
    """A repository is its objects: put into a directory by another tool, it opens, is read and goes on."""
    world = make_world()
    taken, _writer = back_up(world.as_writer(), CONTENT)
    for name, (body, _modified) in world.store.objects.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(body)
    trust = world.repository.keys.identity.trust
    store = FileStore(str(tmp_path))
    copy = repository.open_repository(store, [world.both], trust)
    assert [(s.id, s.digest) for s in copy.snapshots()[0]] == [(taken.id, taken.digest)]
    assert read_all(copy, taken) == CONTENT
    store.close()


def test_a_moved_snapshot_does_not_open():
    """Under another component, or another id."""
    world = make_world()
    taken, _writer = back_up(world.as_writer(), CONTENT)
    body = world.store.get(layout.snapshot_name("console-db", taken.id))
    for name in (
        layout.snapshot_name("sql-db", taken.id),
        layout.snapshot_name("console-db", taken.id[:-1] + ("0" if taken.id[-1] != "0" else "1")),
    ):
        world.store.put(name, body)
        _found, failures = world.repository.snapshots()
        assert [(f.on, f.fault) for f in failures] == [(name, "commitment")]
        world.store.delete(name)


def test_a_repository_is_made_only_once():
    """And what is there stays as it is."""
    world = make_world()
    before = dict(world.store.objects)
    with pytest.raises(errors.UsageError, match="already"):
        repository.initialise(world.store, [world.both], 60)
    assert world.store.objects == before


def test_what_is_no_repository_is_told():
    """An empty place, and one whose keys are gone."""
    world = make_world()
    with pytest.raises(errors.ObjectMissing, match="no repository"):
        repository.open_repository(MemoryStore(), [world.both], None)
    world.store.delete(FIRST)
    with pytest.raises(errors.ObjectMissing, match="no key file"):
        world.as_writer()
