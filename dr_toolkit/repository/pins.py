"""Pins: recovery points that retention leaves alone until a day (docs/format.md, section 11)."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from dr_toolkit import clock, errors
from dr_toolkit.repository import crypto, documents, keyring, layout
from dr_toolkit.repository.repository import Point, Repository


@dataclass(frozen=True, slots=True)
class Pin:
    """A signed word for a point.

    Attributes:
        run: the pin's id.
        point: the point's id.
        digest: HASH of the point's object.
        until: aware, UTC.
    """

    run: str
    point: str
    digest: bytes
    until: datetime


def pin(repository: Repository, point: Point, until: datetime) -> Pin:
    """Pin a point (role ``read``).

    Raises:
        KeyRefused: no recipient at hand has the role.
    """
    run = layout.new_timed_id(repository.store.now())
    name = f"{layout.PINS}{run}"
    digest = crypto.digest(repository.store.get(layout.point_name(point.id)))
    moment = clock.rfc3339(until)
    fields = {"point": point.id, "digest": base64.b64encode(digest).decode(), "until": moment}
    repository.store.put(name, repository.keys.sign("pin", name, fields))
    return Pin(run, point.id, digest, clock.parse_rfc3339(moment))


def pins(repository: Repository) -> Iterator[Pin]:
    """All pins that verify, oldest first."""
    return iter(documents.each(repository, layout.PINS, _pin)[0])


def damaged(repository: Repository) -> list[errors.DataError]:
    """An error for each pin that does not verify. What it pinned is not protected by it any more."""
    return documents.each(repository, layout.PINS, _pin)[1]


def _pin(repository: Repository, name: str) -> Pin:
    document = repository.store.get(name)
    line = crypto.open_document(document, repository.keys.identity.signing_public, "pin", name)
    value = keyring.parse_document(line, repository.repository_id, name)
    return Pin(
        name.removeprefix(layout.PINS),
        str(value["point"]),
        base64.b64decode(value["digest"], validate=True),
        clock.parse_rfc3339(value["until"]),
    )
