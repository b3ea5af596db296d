"""Small objects that say something about snapshots: points, evidence, what was retired. One that is damaged hides no other.

Whoever holds the write role can put any bytes under these names, so what is read is checked field by field.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from dr_toolkit import errors
from dr_toolkit.repository import crypto, keyring, layout

if TYPE_CHECKING:
    from dr_toolkit.repository.repository import Repository

Item = TypeVar("Item")
_HASH = 32


@dataclass(frozen=True, slots=True)
class Point:
    """A recovery point: ``snapshots`` are (component, snapshot id, HASH in base64)."""

    id: str
    name: str
    time: str
    snapshots: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """One verified result of one verification run; ``result`` is as in docs/format.md, section 11."""

    run: str
    time: str
    result: dict[str, Any]


def each(
    repository: Repository, folder: str, read: Callable[[Repository, str], Item]
) -> tuple[list[Item], list[errors.DataError]]:
    """What is in a folder, oldest first, and an error for each object that does not open, verify, or mean anything.

    Args:
        repository: opened.
        folder: as in `layout`.
        read: reads one object by its name.
    """
    found: list[Item] = []
    failures: list[errors.DataError] = []
    for item in repository.store.list(folder):
        try:
            found.append(read(repository, item.name))
        except errors.DataError as error:
            failures.append(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            message = f'"{item.name}" does not have the fields that it must have'
            failures.append(errors.Damaged(message, fault="structure", on=item.name))
            failures[-1].__cause__ = error
    return found, failures


def points(repository: Repository) -> tuple[list[Point], list[errors.DataError]]:
    """All recovery points."""
    return each(repository, layout.POINTS, _point)


def evidence(repository: Repository) -> tuple[list[Evidence], list[errors.DataError]]:
    """All signed results."""
    runs, failures = each(repository, layout.EVIDENCE, _run)
    return [one for run in runs for one in run], failures


def retired(repository: Repository) -> tuple[frozenset[tuple[str, str, bytes]], list[errors.DataError]]:
    """(component, id, HASH) of snapshots that a signed document says were removed on purpose."""
    rows, failures = each(repository, layout.RETIRED, _retired)
    return frozenset(row for document in rows for row in document), failures


def _point(repository: Repository, name: str) -> Point:
    value = keyring.parse_json(repository.payload(name, b"T"), name)
    if value.get("format") != 1 or value.get("critical"):
        raise errors.UnknownFormat(
            f'"{name}" needs a newer drctl', fault="version", on=name, hint="install a newer drctl"
        )
    if value["id"] != name.removeprefix(layout.POINTS):
        raise errors.Damaged(f'"{name}" holds another point', fault="structure", on=name)
    rows = tuple((_text(c), _text(i), _digest(d)) for c, i, d in value["snapshots"])
    return Point(value["id"], _text(value["name"]), _text(value["time"]), rows)


def _run(repository: Repository, name: str) -> list[Evidence]:
    document = repository.payload(name, b"E")
    line = crypto.open_document(document, repository.keys.identity.signing_public, "evidence", name)
    value = keyring.parse_document(line, repository.repository_id, name)
    return [Evidence(_text(value["run"]), _text(value["time"]), dict(one)) for one in value["results"]]


def _retired(repository: Repository, name: str) -> list[tuple[str, str, bytes]]:
    line = crypto.open_document(
        repository.store.get(name), repository.keys.identity.signing_public, "retired", name
    )
    value = keyring.parse_document(line, repository.repository_id, name)
    return [(_text(row[0]), _text(row[1]), base64.b64decode(row[2])) for row in value["snapshots"]]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("text was expected")
    return value


def _digest(value: object) -> str:
    if len(base64.b64decode(_text(value), validate=True)) != _HASH:
        raise ValueError("a HASH was expected")
    return _text(value)
