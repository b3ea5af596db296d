"""An opened repository: its store, its verified identity, its keyring, and what lies in it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from dr_toolkit import errors
from dr_toolkit.repository import crypto, documents, keyring, layout, pack, snapshot, zstd
from dr_toolkit.repository.catalog_reader import Pages, TreeReader
from dr_toolkit.repository.documents import Evidence, Point
from dr_toolkit.repository.keyring import KeyFile, Keyring, Recipient
from dr_toolkit.repository.snapshot import Finding, Snapshot
from dr_toolkit.repository.store import Store

__all__ = ["Evidence", "Point", "Repository", "exists", "initialise", "open_repository"]

READERS = 8


class Repository:
    """What every job works on.

    Args:
        store: where the objects are.
        keys: the keyring.
    """

    def __init__(self, store: Store, keys: Keyring) -> None:
        self.store = store
        self.keys = keys
        self.pages = Pages(store, keys)

    @property
    def repository_id(self) -> bytes:
        """16 bytes."""
        return self.keys.identity.repository_id

    def components(self) -> list[str]:
        """Components that have at least one snapshot."""
        return sorted(
            {
                parsed[0]
                for item in self.store.list(layout.SNAPSHOTS)
                if (parsed := layout.parse_snapshot_name(item.name))
            }
        )

    def snapshots(self, component: str | None = None) -> tuple[list[Snapshot], list[errors.DataError]]:
        """All snapshots that open, oldest first, and an error for each that does not."""
        prefix = layout.SNAPSHOTS if component is None else f"{layout.SNAPSHOTS}{component}/"
        names = [item.name for item in self.store.list(prefix) if layout.parse_snapshot_name(item.name)]
        found: list[Snapshot] = []
        failures: list[errors.DataError] = []
        with ThreadPoolExecutor(READERS) as pool:
            for result in pool.map(self._try_header, names):
                if isinstance(result, Snapshot):
                    found.append(result)
                else:
                    failures.append(result)
        retired = self.retired()
        present = [s for s in found if (s.header.component, s.id, s.digest) not in retired]
        return snapshot.judged(sorted(present, key=lambda s: s.id)), failures

    def header(self, component: str, snapshot_id: str) -> Snapshot:
        """One snapshot's header, opened."""
        name = layout.snapshot_name(component, snapshot_id)
        body = self.store.get(name)
        epoch = crypto.parse_header(body[: crypto.HEADER_SIZE], b"S", name)
        payload = crypto.open_payload(
            body, self.keys.catalog_key(epoch, name), self.repository_id, b"S", name
        )
        found = Snapshot(snapshot.decode_header(payload, name), crypto.digest(body))
        self._check_keys_named(found, epoch)
        self._check_epoch(found, epoch, component)
        return found

    def _check_keys_named(self, found: Snapshot, sealed_epoch: int) -> None:
        """The key file that a header names must be there, unaltered: a rolled-back rotation is visible."""
        epoch, generation, digest = found.header.keys
        on = layout.snapshot_name(found.header.component, found.id)
        name = layout.key_file_name(epoch, generation)
        if epoch != sealed_epoch:
            raise errors.Damaged(
                f'snapshot "{found.id}" names a key file of another epoch', fault="structure", on=on
            )
        present = self.keys.files.get(epoch)
        if present is None or present.generation < generation:
            raise errors.ObjectMissing(
                f'the key file "{name}" that snapshot "{found.id}" names is gone',
                fault="missing",
                on=on,
                hint="put it back from another copy of the repository; find out who deleted it",
            )
        if self.keys.digests.get((epoch, generation), digest) != digest:
            raise errors.Damaged(
                f'"{name}" is not the key file that snapshot "{found.id}" names',
                fault="authentication",
                on=on,
            )

    def _check_epoch(self, found: Snapshot, epoch: int, component: str) -> None:
        """A snapshot of an earlier epoch is believed only when a later rotation listed it."""
        later = [known for known in self.keys.files.values() if known.epoch > epoch]
        row = (component, found.id, found.digest)
        if later and not any(known.earlier is not None and row in known.earlier for known in later):
            raise errors.UntrustedKeys(
                f'snapshot "{found.id}" is of epoch {epoch} and no later rotation signed it',
                fault="trust",
                on=layout.snapshot_name(component, found.id),
                hint="it was made after the rotation with keys that no longer count: do not use it",
            )

    def _try_header(self, name: str) -> Snapshot | errors.DataError:
        parsed = layout.parse_snapshot_name(name)
        assert parsed is not None  # noqa: S101  # for the type checker: the caller filtered the names
        try:
            return self.header(*parsed)
        except errors.DataError as error:
            return error

    def trees(self, found: Snapshot) -> tuple[TreeReader, TreeReader]:
        """(entries, packs) of a snapshot."""
        header = found.header
        return TreeReader(self.pages, header.entries, "entries"), TreeReader(
            self.pages, header.packs, "packs"
        )

    def footer(self, pack_id: bytes, size: int) -> pack.Footer:
        """A pack's footer, opened with the catalog key."""
        name = layout.pack_name(pack_id)
        tail, whole = self.store.get_tail(name, min(size, 64 << 10))
        length = pack.parse_trailer(tail, name)
        wanted = length + pack.TRAILER_SIZE
        if wanted > whole:
            raise errors.Damaged(
                f'the footer of "{name}" is longer than the pack', fault="structure", on=name
            )
        if wanted > len(tail):
            tail = self.store.get_range(name, whole - wanted, wanted)
        return pack.open_footer(tail[len(tail) - wanted : -pack.TRAILER_SIZE], whole, name, self.keys)

    def points(self) -> Iterator[Point]:
        """All recovery points that open, oldest first."""
        return iter(documents.points(self)[0])

    def add_point(self, name: str, taken: Sequence[Snapshot]) -> Point:
        """Tie snapshots together under a name."""
        now = self.store.now()
        point_id = layout.new_timed_id(now)
        rows = [[s.header.component, s.id, s.digest_text] for s in taken]
        moment = max((s.header.time for s in taken), default="")
        value = {"format": 1, "critical": [], "id": point_id, "name": name, "time": moment, "snapshots": rows}
        self._put_sealed(layout.point_name(point_id), b"T", msgspec.json.encode(value))
        return Point(point_id, name, moment, tuple((c, i, d) for c, i, d in rows))

    def evidence(self) -> tuple[list[Evidence], list[errors.DataError]]:
        """All signed results, oldest first, and an error for each object that does not open or verify."""
        return documents.evidence(self)

    def damaged_documents(self) -> list[errors.DataError]:
        """An error for each point and each document about retired snapshots that does not open, verify, or mean anything."""
        return [*documents.points(self)[1], *documents.retired(self)[1]]

    def add_evidence(self, results: Sequence[dict[str, Any]], moment: str, tool: str) -> str:
        """Sign and store the results of one verification run (role ``read``); returns the run id."""
        run = layout.new_timed_id(self.store.now())
        name = layout.evidence_name(run)
        document = self.keys.sign(
            "evidence", name, {"run": run, "time": moment, "tool": tool, "results": list(results)}
        )
        self._put_sealed(name, b"E", document)
        return run

    def missing(
        self, present: Sequence[Snapshot], failures: Sequence[errors.DataError] = ()
    ) -> list[Finding]:
        """Snapshots that something names and that are gone or altered. ``present`` must be all of them."""
        digests = {(s.header.component, s.id): s.digest for s in present}
        damaged = {parsed for f in failures if (parsed := layout.parse_snapshot_name(f.on or ""))}
        named = [
            (component, snapshot_id, base64.b64decode(digest), f'point "{point.name}"')
            for point in self.points()
            for component, snapshot_id, digest in point.snapshots
        ]
        signed, _failures = self.evidence()
        named += [
            (
                e.result["component"],
                e.result["snapshot"],
                base64.b64decode(e.result["digest"]),
                f'evidence "{e.run}"',
            )
            for e in signed
            if e.result.get("digest")
        ]
        findings = snapshot.find_missing(digests, [s.header for s in present], named, self.retired())
        return [f for f in findings if not (f.problem == "missing" and (f.component, f.snapshot) in damaged)]

    def retired(self) -> frozenset[tuple[str, str, bytes]]:
        """(component, id, HASH) of snapshots that a signed document says were removed on purpose."""
        return documents.retired(self)[0]

    def keys_reference(self) -> tuple[int, int, bytes]:
        """(epoch, generation, HASH) of the current key file, as headers name it."""
        current = self.keys.current
        return current.epoch, current.generation, current.digest

    def check_epoch_is_current(self) -> None:
        """Look at the key files again: a rotation during a backup makes its snapshot one that nobody would believe."""
        newest = max(
            (p for item in self.store.list(layout.KEYS) if (p := layout.parse_key_file_name(item.name))),
            default=(0, 0),
        )
        if newest[0] != self.keys.current.epoch:
            raise errors.CommitRefused(
                f"the repository's keys moved to epoch {newest[0]} while the backup ran in epoch {self.keys.current.epoch}",
                on=layout.KEYS,
                hint="run the backup again",
                unaffected="no snapshot was made; the repository is as it was",
            )

    def put_header(self, header: snapshot.Header) -> Snapshot:
        """Create a header object: the commit."""
        name = layout.snapshot_name(header.component, header.id)
        body = self._put_sealed(name, b"S", snapshot.encode_header(header))
        return Snapshot(header, crypto.digest(body))

    def put_note(self, snapshot_id: str, name: str, content: bytes) -> tuple[tuple[str, int, bytes], int]:
        """Store a note of a snapshot that is about to be committed: its row in the header, and the object's size."""
        body = self._put_sealed(layout.note_name(snapshot_id, name), b"N", content)
        return (name, len(content), crypto.digest(content)), len(body)

    def note(self, found: Snapshot, name: str) -> bytes | None:
        """A note's content, checked against the header; None when the snapshot has none of that name.

        Raises:
            ObjectMissing, Damaged: it is not what the header says.
        """
        row = next((row for row in found.header.notes if row[0] == name), None)
        if row is None:
            return None
        on = layout.note_name(found.id, name)
        body = self.store.get(on)
        epoch = crypto.parse_header(body[: crypto.HEADER_SIZE], b"N", on)
        opener = crypto.Opener(
            body[: crypto.HEADER_SIZE], self.keys.catalog_key(epoch, on), self.repository_id, b"N", on
        )
        content = zstd.decompress_stream(b"".join(crypto.open_all_frames(body, opener, on)), row[1], on)
        if (len(content), crypto.digest(content)) != row[1:]:
            raise errors.Damaged(f'the note "{on}" is not the one that is named', fault="structure", on=on)
        return content

    def _put_sealed(self, name: str, kind: bytes, payload: bytes) -> bytes:
        epoch = self.keys.current.epoch
        sealer = crypto.Sealer(self.keys.catalog_key(epoch), self.repository_id, kind, epoch, name)
        body = crypto.seal_payload(sealer, payload)
        self.store.put(name, body)
        return body

    def payload(self, name: str, kind: bytes) -> bytes:
        """What a small sealed object holds.

        Raises:
            DataError: it is not there, or does not open.
        """
        body = self.store.get(name)
        epoch = crypto.parse_header(body[: crypto.HEADER_SIZE], kind, name)
        return crypto.open_payload(body, self.keys.catalog_key(epoch, name), self.repository_id, kind, name)


def exists(store: Store) -> bool:
    """Whether there is a repository already."""
    return store.exists(layout.REPOSITORY)


def initialise(store: Store, recipients: Sequence[Recipient], grace_seconds: int) -> Repository:
    """Create a repository; the key file first, so that a repository without keys never exists."""
    if exists(store):
        raise errors.UsageError(
            f'there is a repository already at "{store.describe()}"',
            hint="use it as it is, or choose another prefix",
            unaffected="the existing repository is unchanged",
        )
    made = keyring.create(recipients, grace_seconds, store.now())
    store.put(made.key_file_name, made.key_file)
    store.put(layout.REPOSITORY, made.repository)
    return open_repository(store, recipients, made.identity.trust)


def open_repository(store: Store, recipients: Sequence[Recipient], trust: str | None) -> Repository:
    """Open and verify a repository. Nothing is unwrapped yet but what listing needs.

    Raises:
        ObjectMissing: there is no repository.
        UntrustedKeys: identity or key files do not verify under ``trust``.
        KeyRefused, KeyUnreachable: no recipient unwraps the catalog key.
    """
    try:
        document = store.get(layout.REPOSITORY)
    except errors.ObjectMissing as error:
        raise errors.ObjectMissing(
            f'there is no repository at "{store.describe()}"',
            fault="missing",
            on=layout.REPOSITORY,
            hint="make one with: drctl init",
        ) from error
    identity = keyring.open_identity(document, trust)
    return Repository(store, Keyring(identity, _key_files(store, identity), recipients))


def _key_files(store: Store, identity: keyring.Identity) -> list[KeyFile]:
    """Every key file, oldest generation first.

    A file that does not verify is an error, not history: somebody put it there, or it is damaged.
    """
    names = [item.name for item in store.list(layout.KEYS) if layout.parse_key_file_name(item.name)]
    found = [keyring.open_key_file(store.get(name), name, identity) for name in sorted(names)]
    halves: dict[int, bytes] = {}
    for one in found:
        if halves.setdefault(one.epoch, one.public_key) != one.public_key:
            name = layout.key_file_name(one.epoch, one.generation)
            raise errors.Damaged(
                f'"{name}" has another public half than its epoch', fault="structure", on=name
            )
    if not found:
        raise errors.ObjectMissing(
            "the repository has no key file",
            fault="missing",
            on=layout.KEYS,
            hint="restore keys/ from another copy of the repository",
        )
    return found
