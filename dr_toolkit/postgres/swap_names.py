"""Names of databases beside a live one, and the marker by which drctl knows its own. Pure functions.

A half-restored database carries a marker in its comment. Only what the marker says is ours is ever dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal

from dr_toolkit.errors import TargetError, UsageError

NAME_LIMIT = 63
"""PostgreSQL cuts a longer name without a word, and then two names may become one."""

State = Literal["restoring", "verified", "swapping", "undoing"]
UNDOING: State = "undoing"
"""The marker of a kept database that is being given its name back: whatever happens, it is kept."""
_STATES = ("restoring", "verified", "swapping", UNDOING)
_MARK = "drctl: "
_MANY = 100
_STAMP = re.compile(r"\d{8}T\d{6}Z\d*")


@dataclass(frozen=True, slots=True)
class Marker:
    """What a half-restored database says about itself.

    Attributes:
        live: name of the database that it is to become.
        snapshot: id of the snapshot that it is restored from; while undoing, of the one that it was replaced with.
        state: how far it is.
        began: when, RFC 3339; while undoing, when it was replaced.
    """

    live: str
    snapshot: str
    state: State
    began: str

    def text(self) -> str:
        """The comment."""
        return _MARK + json.dumps(asdict(self), ensure_ascii=False)


def read_marker(comment: str | None) -> Marker | None:
    """The marker in a comment, or None if it is anything else."""
    if comment is None or not comment.startswith(_MARK):
        return None
    try:
        values = json.loads(comment[len(_MARK) :])
        marker = Marker(**values)
    except (ValueError, TypeError):
        return None
    texts = all(isinstance(value, str) for value in values.values())
    return marker if texts and marker.state in _STATES else None


@dataclass(frozen=True, slots=True)
class Past:
    """What the comment of a database that drctl put aside says.

    Attributes:
        why: ``replaced`` by a restore, or ``undone``: the restored content, put aside by ``--undo``.
        moment: when, RFC 3339.
        snapshot: id of the snapshot that it was replaced with, or that it has the content of.
    """

    why: Literal["replaced", "undone"]
    moment: str
    snapshot: str


_LATER = "go back: drctl restore --undo; drop it: drctl restore --cleanup"
_REPLACED = re.compile(r"replaced by drctl at (\S+) with snapshot ([^\s;]+); ")
_UNDONE = re.compile(r"put aside by drctl at (\S+), which undid snapshot ([^\s;]+); ")


def kept_comment(moment: str, snapshot: str) -> str:
    """The comment of a database that a restore replaced."""
    return f"replaced by drctl at {moment} with snapshot {snapshot}; {_LATER}"


def undone_comment(moment: str, snapshot: str) -> str:
    """The comment of a restored database that was put aside again."""
    return f"put aside by drctl at {moment}, which undid snapshot {snapshot}; {_LATER.split('; ')[1]}"


def read_past(name: str, live: str, comment: str | None) -> Past | None:
    """What a database beside ``live`` says that it was; None when drctl did not put it aside.

    Its name must be exactly one that `old_name` gives for ``live``, and its comment one of ours.
    """
    _head, mark, stamp = name.rpartition("_old_")
    if not mark or not _STAMP.fullmatch(stamp) or _cut(live, f"_old_{stamp}") != name:
        return None
    if (marker := read_marker(comment)) is not None:
        undoing = marker.state == UNDOING and marker.live == live
        return Past("replaced", marker.began, marker.snapshot) if undoing else None
    if found := _REPLACED.match(comment or ""):
        return Past("replaced", found[1], found[2])
    if found := _UNDONE.match(comment or ""):
        return Past("undone", found[1], found[2])
    return None


def check_name(name: str) -> None:
    """Refuse a name that PostgreSQL would cut.

    Raises:
        UsageError: it is too long.
    """
    if len(name.encode()) > NAME_LIMIT:
        raise UsageError(
            f'the database name "{name}" is longer than {NAME_LIMIT} bytes, and PostgreSQL would cut it silently',
            hint="choose a shorter name",
            unaffected="nothing was started",
        )


def new_name(live: str, moment: datetime, taken: Collection[str] = ()) -> str:
    """Name of the database to restore into: ``<live>_drctl_<moment>``."""
    return _free(live, f"_drctl_{_stamp(moment)}", taken)


def old_name(live: str, moment: datetime, taken: Collection[str] = ()) -> str:
    """Name under which the replaced database is kept: ``<live>_old_<moment>``."""
    return _free(live, f"_old_{_stamp(moment)}", taken)


def looks_new(name: str, live: str) -> bool:
    """Whether a name is one that `new_name` gives for ``live``."""
    head, mark, tail = name.rpartition("_drctl_")
    shaped = tail[:8].isdigit() and tail[8:9] == "T" and tail[9:15].isdigit() and tail[15:16] == "Z"
    return bool(mark) and shaped and bool(head) and live.startswith(head)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y%m%dT%H%M%SZ")


def _free(live: str, ending: str, taken: Collection[str]) -> str:
    for attempt in range(1, _MANY):
        name = _cut(live, ending if attempt == 1 else f"{ending}{attempt}")
        if name not in taken:
            return name
    raise TargetError(f'no free name beside "{live}": {_MANY} databases are named "…{ending}"')


def _cut(live: str, ending: str) -> str:
    """Shorten the first part, never in the middle of a character, so that the whole fits."""
    room = NAME_LIMIT - len(ending.encode())
    return live.encode()[:room].decode(errors="ignore") + ending
