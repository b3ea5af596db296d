"""The repository's secrets, who may unwrap them, and the signed files that say so (docs/format.md, sections 4 and 5)."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric import ed25519

from dr_toolkit import clock, errors
from dr_toolkit.repository import crypto, key_fields, layout, strict
from dr_toolkit.repository.crypto import OpenKey, lp
from dr_toolkit.repository.key_fields import KeyFields, RootFields, read_fields

Role = key_fields.Role
Purpose = Literal["catalog", "open", "signing"]

_WRAPS: Mapping[str, frozenset[str]] = {
    "write": frozenset({"catalog"}),
    "read": frozenset({"catalog", "open", "signing"}),
    "both": frozenset({"catalog", "open", "signing"}),
}
_SIZES: Mapping[Purpose, int] = {"catalog": 64, "open": crypto.OPEN_SECRET_SIZE, "signing": 32}


class Recipient(Protocol):
    """Something able to wrap and unwrap a small secret: a Vault Transit key, a key file.

    ``wrap`` binds the text to ``binding``; ``unwrap`` with another binding must fail. Errors: ``KeyUnreachable`` (a retry makes
    sense), ``KeyRefused`` (it does not).
    """

    @property
    def name(self) -> str:
        """Its name in the configuration and in key files."""

    @property
    def kind(self) -> str:
        """``vault`` or ``key-file``."""

    @property
    def role(self) -> Role:
        """What it may unwrap."""

    def wrap(self, secret: bytes, binding: bytes) -> str:
        """Text that opens only here and only with ``binding``."""

    def unwrap(self, wrapped: str, binding: bytes) -> bytes:
        """The secret that ``wrap`` was given."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What ``repository.json`` says, verified.

    Attributes:
        repository_id: 16 bytes.
        signing_public: the trusted Ed25519 public key, 32 bytes.
        grace_seconds: G of docs/format.md.
        created: by the store's clock.
        pinned: whether the trust came from the configuration rather than from the repository itself.
    """

    repository_id: bytes
    signing_public: bytes
    grace_seconds: int
    created: str
    pinned: bool

    @property
    def trust(self) -> str:
        """The value for ``repository.trust``."""
        return "ed25519:" + base64.b64encode(self.signing_public).decode()


@dataclass(frozen=True, slots=True)
class KeyFile:
    """One verified key file."""

    epoch: int
    generation: int
    public_key: bytes
    recipients: tuple[Mapping[str, Any], ...]
    earlier: frozenset[tuple[str, str, bytes]] | None
    digest: bytes


def parse_document(
    line: bytes, identity: bytes | None, name: str, known: Collection[str] = ()
) -> dict[str, Any]:
    """Parse a signed payload and check ``format``, ``repository`` and ``critical`` (fields in ``known`` may be)."""
    payload = strict.parse_object(line, name)
    strict.check_version(payload, known, name)
    if identity is not None and payload.get("repository") != identity.hex():
        raise errors.Damaged(f'"{name}" is of another repository', fault="structure", on=name)
    return payload


def parse_json(line: bytes, name: str) -> dict[str, Any]:
    """A JSON object, else Damaged."""
    return strict.parse_object(line, name)


def parse_trust(text: str) -> bytes:
    """The public key in ``ed25519:<base64>``.

    Raises:
        ConfigError: it is not one.
    """
    try:
        kind, _, encoded = text.partition(":")
        key = base64.b64decode(encoded, validate=True)
    except ValueError:
        kind, key = "", b""
    if kind != "ed25519" or len(key) != 32:  # noqa: PLR2004
        raise errors.ConfigError(
            '"repository.trust" is not "ed25519:" and 44 characters of base64',
            hint="copy the line that drctl init printed",
        )
    return key


def open_identity(document: bytes, trust: str | None) -> Identity:
    """Verify ``repository.json`` (docs/format.md, section 4)."""
    name = layout.REPOSITORY
    payload = parse_document(document.partition(b"\n")[0], None, name, RootFields.__struct_fields__)
    fields = read_fields(payload, RootFields, name)
    claimed = crypto.decode_base64(fields.signing_key.removeprefix("ed25519:"), 32, name)
    if trust is not None and claimed != parse_trust(trust):
        raise errors.UntrustedKeys(
            "the repository's signing key is not the one that the configuration trusts",
            fault="trust",
            on=name,
            hint='somebody replaced the repository, or "repository.url" names another one; compare with what drctl init printed',
            unaffected="nothing was written",
        )
    crypto.open_document(document, claimed, "repository", name)
    return Identity(
        bytes.fromhex(fields.repository), claimed, fields.grace_seconds, fields.created, trust is not None
    )


def open_key_file(document: bytes, name: str, identity: Identity) -> KeyFile:
    """Verify one key file (docs/format.md, section 5.2)."""
    line = crypto.open_document(document, identity.signing_public, "keys", name)
    payload = parse_document(line, identity.repository_id, name, KeyFields.__struct_fields__)
    if type(payload.get("suite")) is int and payload["suite"] != crypto.SUITE:
        raise errors.UnknownFormat(
            f'"{name}" uses an unknown suite', fault="version", on=name, hint="install a newer drctl"
        )
    fields = read_fields(payload, KeyFields, name)
    if (fields.epoch, fields.generation) != layout.parse_key_file_name(name):
        raise errors.Damaged(
            f'"{name}" is stored under the name of another key file', fault="structure", on=name
        )
    for recipient in fields.recipients:
        if _WRAPS[recipient.role] != recipient.wraps.keys():
            raise errors.Damaged(
                f'"{name}" has a recipient whose wraps do not fit its role', fault="structure", on=name
            )
    earlier = None if fields.earlier is None else frozenset(fields.earlier.snapshots)
    recipients = tuple(payload["recipients"])
    return KeyFile(
        fields.epoch, fields.generation, fields.public_key, recipients, earlier, crypto.digest(document)
    )


def binding(
    repository_id: bytes, epoch: int, purpose: Purpose, public_key: bytes, signing_public: bytes
) -> bytes:
    """What a wrap is bound to (docs/format.md, section 5.3)."""
    head = b"drctl/v1/wrap" + lp(repository_id) + struct.pack(">I", epoch)
    return head + lp(purpose.encode()) + lp(crypto.sha256(public_key)) + lp(signing_public)


class Keyring:
    """The secrets at hand. They are unwrapped when first needed, so a command asks a recipient only for what it uses.

    Args:
        identity: the verified repository.
        files: every verified key file; of each epoch the highest generation is valid.
        recipients: from the configuration.
    """

    def __init__(self, identity: Identity, files: Sequence[KeyFile], recipients: Sequence[Recipient]) -> None:
        self.identity = identity
        self.files = {found.epoch: found for found in sorted(files, key=lambda f: (f.epoch, f.generation))}
        self.digests = {(found.epoch, found.generation): found.digest for found in files}
        self._recipients = recipients
        self._secrets: dict[tuple[int, Purpose], bytes] = {}

    def __repr__(self) -> str:
        return f"Keyring(epochs={sorted(self.files)})"

    @property
    def current(self) -> KeyFile:
        """The key file that new objects are sealed under."""
        return self.files[max(self.files)]

    def catalog_key(self, epoch: int, on: str = layout.KEYS) -> bytes:
        """The catalog key of an epoch. ``on``: the object that names the epoch, for the error when there is none."""
        self._check_known(epoch, on)
        return self._secret(epoch, "catalog")[:32]

    def derived(self, label: Literal["chunk-id", "page-id", "cut"]) -> bytes:
        """A key derived from the id key."""
        return crypto.hkdf(
            self._secret(self.current.epoch, "catalog")[32:], b"", b"drctl/v1/" + label.encode(), 32
        )

    def open_key(self, epoch: int, on: str = layout.KEYS) -> OpenKey:
        """The open key of an epoch (role ``read``). ``on``: as in ``catalog_key``."""
        self._check_known(epoch, on)
        return OpenKey(self._secret(epoch, "open"))

    def sign(self, purpose: str, name: str, payload: Mapping[str, Any]) -> bytes:
        """A signed document (role ``read``). ``format``, ``repository`` and ``critical`` are added."""
        key = self._secret(self.current.epoch, "signing")
        if crypto.public_of(key) != self.identity.signing_public:
            raise errors.UntrustedKeys(
                "the wrapped signing key is not the trusted one", fault="trust", on=layout.KEYS
            )
        return crypto.sign_document(key, purpose, name, _payload(self.identity.repository_id, payload))

    def _check_known(self, epoch: int, on: str) -> None:
        """Whoever names an epoch without a key file is damaged, or the key file is gone."""
        if epoch not in self.files:
            raise errors.ObjectMissing(
                f'"{on}" is of epoch {epoch}, and there is no key file of that epoch',
                fault="missing",
                on=on,
                hint=f"if other objects are of epoch {epoch} too, its key file was removed: put it back from another copy of the "
                "repository, and find out who did it. If this is the only one, the object itself is damaged: put it back from "
                "another copy, or move it out of the repository; the next backup then goes on with what is left",
            )

    def _secret(self, epoch: int, purpose: Purpose) -> bytes:
        found = self._secrets.get((epoch, purpose))
        if found is None:
            found = self._unwrap(epoch, purpose)
            if purpose == "catalog":
                self._check_id_key(epoch, found)
            self._secrets[(epoch, purpose)] = found
        return found

    def _check_id_key(self, epoch: int, secret: bytes) -> None:
        """The id key is one and the same in all epochs: another one would make every chunk look new, or wrong."""
        if any(p == "catalog" and other[32:] != secret[32:] for (_, p), other in self._secrets.items()):
            raise errors.Damaged(
                f"the catalog secret of epoch {epoch} has another id key than the other epochs",
                fault="authentication",
                on=layout.KEYS,
            )

    def _unwrap(self, epoch: int, purpose: Purpose) -> bytes:
        key_file = self.files[epoch]
        bound = binding(
            self.identity.repository_id, epoch, purpose, key_file.public_key, self.identity.signing_public
        )
        failures: list[errors.DrctlError] = []
        for recipient, wrapped in self._candidates(key_file, purpose):
            try:
                secret = recipient.unwrap(wrapped, bound)
            except (errors.KeyRefused, errors.KeyUnreachable, errors.ConfigError) as error:
                failures.append(error)
                continue
            self._check(secret, purpose, key_file)
            return secret
        if failures:
            raise min(failures, key=_weight)
        raise errors.KeyRefused(
            f"no configured recipient may unwrap the {purpose} key of epoch {epoch}",
            on=layout.KEYS,
            hint=f'this command needs a recipient with the role {"read" if purpose != "catalog" else "write or read"} under "keys"',
            unaffected="the repository is unchanged",
        )

    def _candidates(self, key_file: KeyFile, purpose: Purpose) -> list[tuple[Recipient, str]]:
        pairs = []
        for stored in key_file.recipients:
            if purpose in stored["wraps"]:
                pairs += [
                    (r, stored["wraps"][purpose])
                    for r in self._recipients
                    if r.name == stored["name"] and r.kind == stored["kind"]
                ]
        return pairs

    @staticmethod
    def _check(secret: bytes, purpose: Purpose, key_file: KeyFile) -> None:
        wrong = len(secret) != _SIZES[purpose] or (
            purpose == "open" and OpenKey(secret).public_bytes() != key_file.public_key
        )
        if wrong:
            raise errors.Damaged(
                f"the unwrapped {purpose} key of epoch {key_file.epoch} is not that key",
                fault="authentication",
                on=layout.KEYS,
            )


def _weight(failure: errors.DrctlError) -> int:
    """Of several recipients that failed, whose failure to tell: one that may pass, then a refusal, then a missing file."""
    return 0 if failure.retry else 1 if isinstance(failure, errors.KeyRefused) else 2


def _payload(repository_id: bytes, fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"format": 1, "repository": repository_id.hex(), **fields, "critical": []})


@dataclass(frozen=True, slots=True)
class NewKeys:
    """What ``create`` made: two objects to store, in this order, and the trust to keep."""

    key_file_name: str
    key_file: bytes
    repository: bytes
    identity: Identity


def create(
    recipients: Sequence[Recipient],
    grace_seconds: int,
    now: datetime,
    random: Callable[[int], bytes] = os.urandom,
) -> NewKeys:
    """Make a repository's identity and its first epoch, wrapped for every recipient."""
    signing = ed25519.Ed25519PrivateKey.generate().private_bytes_raw()
    repository_id, moment = random(16), clock.rfc3339(now)
    identity = Identity(repository_id, crypto.public_of(signing), grace_seconds, moment, pinned=True)
    open_secret = random(crypto.OPEN_SECRET_SIZE)
    secrets: dict[Purpose, bytes] = {"catalog": random(64), "open": open_secret, "signing": signing}
    public_key = OpenKey(open_secret).public_bytes()
    fields = {
        "epoch": 1,
        "generation": 1,
        "created": moment,
        "suite": crypto.SUITE,
        "public_key": base64.b64encode(public_key).decode(),
        "recipients": [
            _wrapped(r, secrets, repository_id, public_key, identity.signing_public) for r in recipients
        ],
        "earlier": None,
    }
    name = layout.key_file_name(1, 1)
    key_file = crypto.sign_document(signing, "keys", name, _payload(repository_id, fields))
    about = {"created": moment, "grace_seconds": grace_seconds, "signing_key": identity.trust}
    repository = crypto.sign_document(
        signing, "repository", layout.REPOSITORY, _payload(repository_id, about)
    )
    return NewKeys(name, key_file, repository, identity)


def _wrapped(
    recipient: Recipient,
    secrets: Mapping[Purpose, bytes],
    repository_id: bytes,
    public_key: bytes,
    signing_public: bytes,
) -> dict[str, Any]:
    wraps = {
        purpose: recipient.wrap(secret, binding(repository_id, 1, purpose, public_key, signing_public))
        for purpose, secret in secrets.items()
        if purpose in _WRAPS[recipient.role]
    }
    return {"name": recipient.name, "kind": recipient.kind, "role": recipient.role, "wraps": wraps}
