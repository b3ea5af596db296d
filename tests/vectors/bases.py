"""The good repositories that every vector starts from."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dr_toolkit.repository import crypto, repository
from dr_toolkit.repository.memory_store import MemoryStore
from dr_toolkit.repository.reader import SnapshotReader
from dr_toolkit.repository.writer import SnapshotWriter
from tests.unit.repository.support import KeyFileRecipient
from tests.vectors.forge import ID_TIME, Chunk, Forge, b64, fixed

WRITER_KEY = fixed("the writer's key file")
OTHER_TRUST = f"ed25519:{b64(crypto.public_of(fixed('somebody else')))}"
FIRST = ID_TIME + fixed("first snapshot", 16).hex()
EMPTY = "20260102T020405Z-" + fixed("empty snapshot", 16).hex()
SECOND = "20260103T030405Z-" + fixed("second snapshot", 16).hex()
NAME = f"snapshots/console-db/{FIRST}"


@dataclass
class Fault:
    """One thing to break: ``damage`` changes a copy of the base's objects."""

    name: str
    expect: str
    why: str
    damage: Callable[[Forge], object]
    base: str = "plain"
    snapshot: str = ""
    key: str = "right"
    trust: str = "right"


@dataclass
class Base:
    """A good repository: its objects, and ``facts`` of each snapshot's entries."""

    why: str
    forge: Forge
    trust: str
    snapshots: dict[str, list[int | str]] = field(default_factory=dict)

    @property
    def objects(self) -> dict[str, bytes]:
        """All objects by name."""
        return self.forge.objects


def facts(content: dict[str, bytes]) -> list[int | str]:
    """How the manifest describes a snapshot's content: the number of entries, and one HASH over paths and contents."""
    rows = [[path, len(content[path]), b64(crypto.digest(content[path]))] for path in sorted(content)]
    return [len(rows), b64(crypto.digest(json.dumps(rows).encode()))]


def trust_of(forge: Forge) -> str:
    """The trust to pin."""
    return f"ed25519:{b64(forge.signer)}"


def put_documents(forge: Forge) -> None:
    """repository.json and the first key file."""
    forge.objects["repository.json"] = forge.sign("repository", "repository.json", forge.about())
    forge.objects["keys/000001-000001"] = forge.sign("keys", "keys/000001-000001", forge.keys())


def put_chunks(forge: Forge) -> list[Chunk]:
    """Two packs. Chunks 1 and 2 have frames of equal length, so that they can be swapped."""
    made = random.Random("chunks")
    first = forge.pack(
        "a", [b"PGDMP toc", made.randbytes(200), made.randbytes(200), fixed("private") + b"CREATE ROLE a;\n"]
    )
    return first + forge.pack("b", [b"tail " * 40, made.randbytes(70)])  # fmt: skip


def records_of(chunks: list[Chunk]) -> list[list[object]]:
    """Entries that use every kind of extent: whole, part of a chunk, zeros, private, none."""
    toc, one, two, private, tail, _ = chunks
    return [
        ["e", "archive/00-toc", "toc"], toc.extent(0), ["f", 9, {"q": 1, "name": "ü"}],
        ["e", "archive/data/00/t", "table-data"], one.extent(0, 10, 50), ["z", 50, 1000], two.extent(1050), tail.extent(1250),
        one.extent(1450, 150), ["f", 1500, {}],
        ["e", "archive/empty", "table-data"], ["f", 0, {}],
        ["e", "globals.sql", "globals"], private.extent(0, 32), ["f", 15, {}],
    ]  # fmt: skip


def contents_of(chunks: list[Chunk]) -> dict[str, bytes]:
    """What ``records_of`` says, as bytes."""
    toc, one, two, private, tail, _ = (c.content for c in chunks)
    table = one[10:60] + bytes(1000) + two + tail + one[150:]
    return {
        "archive/00-toc": toc,
        "archive/data/00/t": table,
        "archive/empty": b"",
        "globals.sql": private[32:],
    }


def uses_of(forge: Forge, chunks: list[Chunk]) -> list[list[object]]:
    """The records of the packs tree."""
    used: dict[bytes, int] = {}
    for chunk in chunks:
        used[chunk.pack] = used.get(chunk.pack, 0) + chunk.length
    sizes = {p: len(forge.objects[f"packs/{p.hex()[:2]}/{p.hex()}"]) for p in used}
    return [["k", b64(p), sizes[p], used[p]] for p in sorted(used)]


def plain() -> Base:
    """One epoch; a catalog of several levels made by hand, and a snapshot without entries."""
    forge = Forge("plain")
    put_documents(forge)
    chunks = put_chunks(forge)
    catalog = forge.catalog("first")
    trees = {
        "entries": catalog.tree("entries", records_of(chunks)),
        "packs": catalog.tree("packs", uses_of(forge, chunks[:5]), per_page=1),
    }
    catalog.finish()
    name = forge.put_header(forge.header(FIRST, **trees, entry_count=4, bytes_source=1524))
    empty = forge.put_header(forge.header(EMPTY, time="2026-01-02T02:04:05Z"))
    return Base(
        "a catalog of several levels, zeros, parts of chunks, a private chunk; a snapshot without entries",
        forge,
        trust_of(forge),
        {name: facts(contents_of(chunks)), empty: facts({})},
    )


def rotated() -> Base:
    """Two generations, then a second epoch; its snapshot refers to pages and packs of both epochs."""
    forge = Forge("plain")
    put_documents(forge)
    chunks = put_chunks(forge)
    catalog = forge.catalog("first")
    old_leaves, uses = catalog.leaves("entries", records_of(chunks)), uses_of(forge, chunks[:5])
    trees = {"entries": catalog.grow("entries", old_leaves), "packs": catalog.tree("packs", uses)}
    catalog.finish()
    first = forge.put_header(forge.header(FIRST, **trees, entry_count=4))
    digest = b64(crypto.digest(forge.objects[first]))
    put_rotations(forge, digest)
    forge.old_leaves = old_leaves
    new = forge.pack("c", [b"of the second epoch"], epoch=2)
    later = forge.catalog("second", epoch=2)
    # The old leaves are referred to where they are; only the index above them is of the new epoch.
    new_leaves = later.leaves("entries", [["e", "zz/new", "globals"], new[0].extent(0), ["f", 19, {}]])
    trees = {
        "entries": later.grow("entries", old_leaves + new_leaves),
        "packs": later.tree("packs", uses_of(forge, [*chunks[:5], *new])),
    }
    later.finish()
    keys = [2, 1, b64(crypto.digest(forge.objects["keys/000002-000001"]))]
    header = forge.header(SECOND, **trees, entry_count=5, keys=keys, time="2026-01-03T03:04:05Z")
    second = forge.put_header(header | {"parent": FIRST, "seen": [[FIRST, digest]]}, epoch=2)
    forge.objects |= {"keys/README": b"ignored", "snapshots/Console/x": b"ignored", "probe/1234": b"ignored"}
    content = contents_of(chunks)
    why = "two generations and two epochs; pages and packs of both; names of other shapes are ignored"
    both = {first: facts(content), second: facts(content | {"zz/new": new[0].content})}
    return Base(why, forge, trust_of(forge), both)


def put_rotations(forge: Forge, digest: str) -> None:
    """A second generation with more recipients, and a second epoch that accepts the first snapshot."""
    writer = forge.recipient(role="write", catalog=forge.wrap(1, "catalog", key=WRITER_KEY)) | {
        "name": "the-writer"
    }
    unknown = forge.recipient(kind="abacus") | {"name": "of an unknown kind"}
    generation = forge.keys(1, 2, recipients=[unknown, writer, forge.recipient(role="read")])
    forge.objects["keys/000001-000002"] = forge.sign("keys", "keys/000001-000002", generation)
    epoch = forge.keys(2, 1, earlier={"snapshots": [["console-db", FIRST, digest]]})
    forge.objects["keys/000002-000001"] = forge.sign("keys", "keys/000002-000001", epoch)


def written() -> Base:
    """What drctl itself writes: two snapshots of some hundred entries, the second one sharing with the first."""
    moment = [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]
    store, made = MemoryStore(lambda: moment[0]), random.Random("written")
    recipient = KeyFileRecipient("the-key-file", fixed("the right key file"))
    opened = repository.initialise(store, [recipient], 604800)
    content = {f"archive/data/{i:04}": made.randbytes(8) * made.randrange(20) for i in range(600)}
    content |= {"archive/00-toc": b"PGDMP", "archive/data/large": b"a" * 300_000 + made.randbytes(40_000)}
    base = Base("what drctl writes", Forge("plain"), opened.keys.identity.trust)
    for number in range(2):
        moment[0] += timedelta(hours=1)
        content[f"archive/data/0300-{number}"] = made.randbytes(100)
        with SnapshotWriter(opened, "console-db", "postgres-dump") as writer:
            for path in sorted(content):
                writer.begin(path, "table-data")
                writer.write(content[path])
                writer.end({"rows": len(content[path])})
            writer.begin("globals.sql", "globals", cutting="private")
            writer.write(b"CREATE ROLE a;")
            writer.end({})
            snapshot = writer.commit({"server": "18.1"})
        with SnapshotReader(opened, snapshot) as reader:
            found = {e.path: b"".join(reader.read(e.path)) for e in reader.entries()}
        if found != content | {"globals.sql": b"CREATE ROLE a;"}:
            raise SystemExit("what was written does not read back")
        base.snapshots[f"snapshots/console-db/{snapshot.id}"] = facts(found)
    base.forge.objects = {name: body for name, (body, _) in store.objects.items()}
    return base


def all_bases() -> dict[str, Base]:
    """Every base by name."""
    return {"plain": plain(), "rotated": rotated(), "written": written()}
