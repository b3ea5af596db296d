"""What the Pod with the restored database says to whoever runs the rehearsal, in its log.

A log is believed nowhere else. Here each word carries a code under a key that lies in the Secret of that namespace alone, so that no other line,
whatever wrote it, can pass for one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

import msgspec

EVENT = "rehearsal"
"""The event of such a line in drctl's JSON log; its fields are ``word`` and ``code``."""


def say(key: str, word: dict[str, Any]) -> dict[str, str]:
    """The fields of a line."""
    # In a form in which no secret of the log can be found and masked: a database may be named like a password.
    text = base64.urlsafe_b64encode(msgspec.json.encode(word)).decode()
    return {"word": text, "code": _code(key, text)}


def heard(key: str, lines: Iterable[str]) -> list[dict[str, Any]]:
    """Every genuine word in a log, in its order."""
    found = []
    for line in lines:
        if f'"{EVENT}"' not in line:
            continue
        try:
            event = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        if not isinstance(event, dict) or event.get("event") != EVENT:
            continue
        text, code = str(event.get("word")), str(event.get("code"))
        if hmac.compare_digest(_code(key, text), code):
            found.append(msgspec.json.decode(base64.urlsafe_b64decode(text)))
    return found


def _code(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
