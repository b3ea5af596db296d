"""Faults of repository.json, of key files and of wraps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from dr_toolkit.repository import crypto
from tests.vectors.bases import FIRST, NAME, OTHER_TRUST, SECOND, Base, Fault
from tests.vectors.forge import Forge, b64, fixed, flip, line

ROOT = "repository.json"
KEYS = "keys/000001-000001"
SECOND_NAME = f"snapshots/console-db/{SECOND}"


def faults(_made: dict[str, Base]) -> Iterator[Fault]:
    """All of them."""
    yield from _roots()
    yield from _signatures()
    yield from _key_payloads()
    yield from _wraps()
    yield from _rotations()


def replaced(name: str, change: Callable[[bytes], bytes]) -> Callable[[Forge], None]:
    """Damage that rewrites one object."""

    def damage(forge: Forge) -> None:
        forge.objects[name] = change(forge.objects[name])

    return damage


def removed(name: str) -> Callable[[Forge], object]:
    """Damage that deletes one object."""
    return lambda forge: forge.objects.pop(name)


def moved(name: str, to: str) -> Callable[[Forge], None]:
    """Damage that renames one object."""

    def damage(forge: Forge) -> None:
        forge.objects[to] = forge.objects.pop(name)

    return damage


def root(change: Callable[[Forge], Any], *, signing: bytes | None = None) -> Callable[[Forge], None]:
    """Another repository.json, well signed."""

    def damage(forge: Forge) -> None:
        forge.objects[ROOT] = forge.sign("repository", ROOT, change(forge), signing=signing)

    return damage


def keys(
    change: Callable[[Forge], Any], *, name: str = KEYS, signing: bytes | None = None
) -> Callable[[Forge], None]:
    """Another key file, well signed; the header is made again, because it names the key file's HASH."""

    def damage(forge: Forge) -> None:
        forge.objects[name] = forge.sign("keys", name, change(forge), signing=signing)
        name_keys(forge, name)

    return damage


def name_keys(forge: Forge, key_file: str) -> None:
    """Make the newest snapshot of the key file's epoch name the key file as it is now."""
    epoch = int(key_file[5:11])
    name = NAME if epoch == 1 else SECOND_NAME
    if name in forge.objects and key_file.endswith("000001"):
        named = [epoch, 1, b64(crypto.digest(forge.objects[key_file]))]
        forge.put_header(header_of(forge, name, epoch) | {"keys": named}, epoch=epoch)


def header_of(forge: Forge, name: str = NAME, epoch: int = 1) -> dict[str, Any]:
    """The payload of a header that is stored."""
    catalog_key = forge.epochs[epoch].catalog[:32]
    payload = crypto.open_payload(forge.objects[name], catalog_key, forge.repository_id, b"S", name)
    found: dict[str, Any] = json.loads(payload)
    return found


def _roots() -> Iterator[Fault]:
    yield Fault("root-missing", "missing", "there is no repository.json", removed(ROOT))
    yield Fault("root-format-2", "version", "a later format", root(lambda f: f.about(format=2)))
    yield Fault("root-format-true", "structure", "true is not a number", root(lambda f: f.about(format=True)))
    yield Fault(
        "root-critical", "version", "an unknown critical field", root(lambda f: f.about(critical=["x"], x=1))
    )
    yield Fault(
        "root-unknown-field", "ok", "other unknown fields are ignored", root(lambda f: f.about(x=[1]))
    )
    yield Fault(
        "root-critical-known",
        "ok",
        "a critical field that is known",
        root(lambda f: f.about(critical=["created"])),
    )
    yield Fault("root-grace-1", "structure", "G is at least 2", root(lambda f: f.about(grace_seconds=1)))
    yield Fault(
        "root-id-short", "structure", "the id is 32 hex digits", root(lambda f: f.about(repository="ab"))
    )
    upper = root(lambda f: f.about(repository=f.repository_id.hex().upper()))
    yield Fault("root-id-upper-case", "structure", "hex is lower case", upper)
    twice = root(lambda f: line(f.about()).replace(b'"format":1', b'"format":1,"format":1'))
    yield Fault("root-duplicate-name", "structure", "a name occurs twice", twice)
    yield Fault(
        "root-fraction", "structure", "a number with a fraction", root(lambda f: f.about(grace_seconds=9.0))
    )
    yield Fault("root-not-json", "structure", "the payload is not JSON", root(lambda _: b"{"))
    yield Fault("root-list", "structure", "the payload is not an object", root(lambda _: b"[1]"))
    yield Fault(
        "root-bom", "structure", "a byte order mark", root(lambda f: b"\xef\xbb\xbf" + line(f.about()))
    )
    other = root(lambda f: f.about(), signing=fixed("somebody else"))
    yield Fault("root-signed-by-another", "signature", "signed by another key than it names", other)
    yield Fault(
        "root-altered",
        "signature",
        "a byte of the payload",
        replaced(ROOT, lambda b: b.replace(b"604800", b"604801")),
    )
    yield Fault("root-pinned-other", "trust", "the trusted key is another one", lambda _: None, trust="other")
    yield Fault(
        "root-unpinned",
        "ok",
        "without a pinned key the repository vouches for itself",
        lambda _: None,
        trust="none",
    )
    thief = root(lambda f: f.about(signing_key=f"{OTHER_TRUST}"), signing=fixed("somebody else"))
    yield Fault("root-replaced", "trust", "a whole new repository.json of a thief", thief)
    bare = root(lambda f: f.about(signing_key=b64(f.signer)))
    yield Fault("root-key-unlabelled", "structure", "the signing key without ed25519:", bare, trust="none")


def _signatures() -> Iterator[Fault]:
    for name, label in ((ROOT, "root"), (KEYS, "keys")):
        yield Fault(f"{label}-trailing", "trailing", "a third line", replaced(name, lambda b: b + b"x\n"))
        yield Fault(
            f"{label}-truncated",
            "truncated",
            "the signature is cut off",
            replaced(name, lambda b: b.partition(b"\n")[0]),
        )
        yield Fault(
            f"{label}-no-last-lf", "truncated", "the last LF is cut off", replaced(name, lambda b: b[:-1])
        )
        yield Fault(
            f"{label}-signature", "signature", "a bit of the signature", replaced(name, flip_signature)
        )
    yield Fault(
        "keys-altered",
        "signature",
        "a byte of the payload",
        replaced(KEYS, lambda b: b.replace(b"2026", b"2027")),
    )
    yield Fault(
        "keys-other-signer",
        "signature",
        "signed by a key that is not trusted",
        keys(lambda f: f.keys(), signing=fixed("x")),
    )
    yield Fault("keys-moved", "signature", "a key file under another name", moved(KEYS, "keys/000001-000002"))
    yield Fault("keys-junk", "signature", "an unsigned file beside the good one", junk)
    purpose = lambda f: f.objects.update({KEYS: f.sign("pin", KEYS, f.keys())})  # noqa: E731
    yield Fault("keys-other-purpose", "signature", "signed for another purpose", purpose)


def flip_signature(document: bytes) -> bytes:
    """Exchange two different characters of the signature."""
    payload, signature, _ = document.split(b"\n")
    return (
        payload
        + b"\n"
        + signature[:20]
        + (b"B" if signature[20:21] == b"A" else b"A")
        + signature[21:]
        + b"\n"
    )


def junk(forge: Forge) -> None:
    """A key file of a higher generation that somebody without the signing key made."""
    name = "keys/000001-000002"
    forge.objects[name] = forge.sign("keys", name, forge.keys(1, 2), signing=fixed("somebody else"))


def _key_payloads() -> Iterator[Fault]:
    yield Fault("keys-missing", "missing", "there is no key file", removed(KEYS))
    yield Fault("keys-format-2", "version", "a later format", keys(lambda f: f.keys(format=2)))
    yield Fault(
        "keys-critical",
        "version",
        "an unknown critical field",
        keys(lambda f: f.keys(critical=["quorum"], quorum=2)),
    )
    yield Fault("keys-suite-2", "version", "an unknown suite", keys(lambda f: f.keys(suite=2)))
    yield Fault(
        "keys-epoch-inside", "structure", "the epoch is not that of the name", keys(lambda f: f.keys(2, 1))
    )
    yield Fault(
        "keys-generation-inside",
        "structure",
        "the generation is not that of the name",
        keys(lambda f: f.keys(1, 2)),
    )
    yield Fault(
        "keys-other-repository",
        "structure",
        "of another repository",
        keys(lambda f: f.keys(repository="0" * 32)),
    )
    yield Fault(
        "keys-public-key-size",
        "structure",
        "a public half of another size",
        keys(lambda f: f.keys(public_key=b64(bytes(32)))),
    )
    yield Fault(
        "keys-public-key-altered",
        "authentication",
        "a public half that the open secret does not make",
        keys(another_half),
    )
    yield Fault("keys-no-recipients", "no-key", "no recipient at all", keys(lambda f: f.keys(recipients=[])))
    yield Fault(
        "keys-recipients-object",
        "structure",
        "recipients are not a list",
        keys(lambda f: f.keys(recipients={})),
    )
    yield Fault(
        "keys-recipient-text",
        "structure",
        "a recipient is not an object",
        keys(lambda f: f.keys(recipients=["x"])),
    )
    unknown = lambda f: f.keys(recipients=[f.recipient(kind="abacus")])  # noqa: E731
    yield Fault("keys-only-unknown-kind", "no-key", "only a recipient of an unknown kind", keys(unknown))
    for label, why, make in (
        ("write-with-open", "a write role with the open wrap", lambda f: f.recipient() | {"role": "write"}),
        (
            "read-without-open",
            "a read role without the open wrap",
            lambda f: f.recipient(role="read", open=None),
        ),
        (
            "read-without-signing",
            "a read role without the signing wrap",
            lambda f: f.recipient(role="read", signing=None),
        ),
        ("role-unknown", "an unknown role", lambda f: f.recipient() | {"role": "admin"}),
        (
            "role-missing",
            "a recipient without a role",
            lambda f: {"name": "x", "kind": "key-file", "wraps": {}},
        ),
        ("wrap-number", "a wrap that is not text", lambda f: f.recipient(signing=1)),
    ):
        yield Fault(
            f"keys-{label}", "structure", why, keys(lambda f, make=make: f.keys(recipients=[make(f)]))
        )
    twice = lambda f: line(f.keys()).replace(b'"epoch":1', b'"epoch":2,"epoch":1')  # noqa: E731
    yield Fault("keys-duplicate-name", "structure", "a name occurs twice", keys(twice))
    yield Fault(
        "keys-earlier-rows",
        "structure",
        "earlier is not made of rows",
        keys(lambda f: f.keys(earlier={"snapshots": [1]})),
    )


def another_half(forge: Forge) -> dict[str, Any]:
    """A key file whose public half was replaced, with wraps that are bound to it."""
    real = forge.epochs[1]
    swapped = type(real)(1, real.catalog, fixed("a thief's open secret"))
    forge.epochs[1] = swapped
    payload = forge.keys(recipients=[forge.recipient(open=forge.wrap(1, "open", real.open))])
    forge.epochs[1] = real
    return payload


def _wraps() -> Iterator[Fault]:
    yield Fault("wrong-key-file", "no-key", "a key file that opens no wrap", lambda _: None, key="other")
    for label, why, expect, make in (
        (
            "prefix",
            "a wrap whose digest inside is of another binding",
            "authentication",
            lambda f: f.wrap(1, "catalog", prefix=bytes(32)),
        ),
        ("moved", "the open wrap in the place of the catalog's", "no-key", lambda f: f.wrap(1, "open")),
        (
            "short",
            "a catalog secret of 32 bytes",
            "authentication",
            lambda f: f.wrap(1, "catalog", bytes(32)),
        ),
    ):
        make_keys = lambda f, make=make: f.keys(recipients=[f.recipient(catalog=make(f))])  # noqa: E731
        yield Fault(f"wrap-{label}", expect, why, keys(make_keys))
    wrong_open = lambda f: f.keys(recipients=[f.recipient(open=f.wrap(1, "open", bytes(32)))])  # noqa: E731
    yield Fault(
        "wrap-open-other",
        "authentication",
        "an open secret that does not make the public half",
        keys(wrong_open),
    )
    wrong_signing = lambda f: f.keys(recipients=[f.recipient(signing=f.wrap(1, "signing", bytes(32)))])  # noqa: E731
    yield Fault(
        "wrap-signing-other", "ok", "a wrong signing secret: nobody needs it to read", keys(wrong_signing)
    )


def _rotations() -> Iterator[Fault]:
    gen2, epoch2 = "keys/000001-000002", "keys/000002-000001"
    yield Fault(
        "first-generation-gone", "ok", "lower generations are history", removed(KEYS), "rotated", NAME
    )
    yield Fault(
        "epoch-rolled-back",
        "missing",
        "the key file of the second epoch is gone",
        removed(epoch2),
        "rotated",
        SECOND_NAME,
    )
    yield Fault(
        "epoch-1-gone", "missing", "both key files of the first epoch are gone", both_gone, "rotated", NAME
    )
    yield Fault(
        "generation-half",
        "structure",
        "a generation with another public half",
        other_generation,
        "rotated",
        NAME,
    )
    yield Fault(
        "writer-reads",
        "no-key",
        "the write role opens the catalog but no pack",
        lambda _: None,
        "rotated",
        NAME,
        "writer",
    )
    for label, why, rows in (
        ("unlisted", "a snapshot of the first epoch that the second does not accept", []),
        ("listed-altered", "a snapshot listed with another HASH", [["console-db", FIRST, b64(bytes(32))]]),
    ):
        make = lambda f, rows=rows: f.keys(2, 1, earlier={"snapshots": rows})  # noqa: E731
        yield Fault(f"snapshot-{label}", "trust", why, keys(make, name=epoch2), "rotated", NAME)
    null = keys(lambda f: f.keys(2, 1, earlier=None), name=epoch2)
    yield Fault("snapshot-no-list", "trust", "a second epoch without a list", null, "rotated", NAME)
    yield Fault(
        "id-key-differs",
        "authentication",
        "the epochs have different id keys",
        other_id_key,
        "rotated",
        SECOND_NAME,
    )
    yield Fault("generation-zero", "ok", "000000 is not the name of a key file", zero, "rotated", NAME)
    yield Fault(
        "generation-2-altered",
        "signature",
        "the newer generation does not verify",
        replaced(gen2, flip_signature),
        "rotated",
        NAME,
    )


def both_gone(forge: Forge) -> None:
    """Remove the first epoch's key files."""
    del forge.objects["keys/000001-000001"], forge.objects["keys/000001-000002"]


def other_generation(forge: Forge) -> None:
    """A second generation with a thief's public half."""
    name, half = "keys/000001-000002", crypto.OpenKey(fixed("a thief's open secret")).public_bytes()
    forge.objects[name] = forge.sign("keys", name, forge.keys(1, 2, public_key=b64(half)))


def other_id_key(forge: Forge) -> None:
    """The second epoch's catalog secret carries another id key; its own page ids are made with that one."""
    real, name = forge.epochs[2], "keys/000002-000001"
    secret = forge.wrap(2, "catalog", real.catalog[:32] + bytes(32))
    payload = forge.keys(2, 1, recipients=[forge.recipient(2, catalog=secret)])
    payload["earlier"] = json.loads(crypto.open_document(forge.objects[name], forge.signer, "keys", name))[
        "earlier"
    ]
    forge.objects[name] = forge.sign("keys", name, payload)
    forge.id_key = bytes(32)
    later = forge.catalog("third", epoch=2)
    entries = later.grow("entries", forge.old_leaves)
    later.finish()
    digest = b64(crypto.digest(forge.objects[name]))
    changed = {"entries": entries, "keys": [2, 1, digest]}
    forge.put_header(header_of(forge, SECOND_NAME, 2) | changed, epoch=2)


def zero(forge: Forge) -> None:
    """A file whose name is almost that of a key file."""
    forge.objects["keys/000001-000000"] = flip(forge.objects["keys/000001-000001"], 5)
