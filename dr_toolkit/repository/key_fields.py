"""What repository.json and key files must hold (docs/format.md, sections 4 and 5.2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from dr_toolkit import errors
from dr_toolkit.repository import crypto, strict
from dr_toolkit.repository.strict import Hash, Time, Whole

Role = Literal["write", "read", "both"]

Fields = TypeVar("Fields", bound=msgspec.Struct)


class RootFields(msgspec.Struct):
    """What repository.json must hold."""

    repository: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
    created: Time
    grace_seconds: Annotated[int, msgspec.Meta(ge=2, le=strict.MAX_WHOLE)]
    signing_key: Annotated[str, msgspec.Meta(pattern="^ed25519:")]


class RecipientFields(msgspec.Struct):
    """What a recipient in a key file must hold."""

    name: str
    kind: str
    role: Role
    wraps: dict[str, str]


class EarlierFields(msgspec.Struct):
    """The snapshots of earlier epochs that a rotation accepted."""

    snapshots: list[tuple[str, str, Hash]]


class KeyFields(msgspec.Struct):
    """What a key file must hold."""

    epoch: Whole
    generation: Whole
    created: Time
    suite: Whole
    public_key: Annotated[
        bytes, msgspec.Meta(min_length=crypto.PUBLIC_KEY_SIZE, max_length=crypto.PUBLIC_KEY_SIZE)
    ]
    recipients: list[RecipientFields]
    earlier: EarlierFields | None


def read_fields(payload: dict[str, Any], shape: type[Fields], name: str) -> Fields:
    """A payload's fields, each of the right type and within its bounds.

    Raises:
        Damaged: a field is absent, or is not.
    """
    try:
        return msgspec.convert(payload, shape)
    except msgspec.MsgspecError as error:
        raise errors.Damaged(f'"{name}" is not as the format says', fault="structure", on=name) from error
