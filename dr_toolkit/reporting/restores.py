"""How a restore of each kind is shown: its plan before, and what came of it."""

from __future__ import annotations

import importlib
from typing import Any, Protocol, cast

_REPORTING = "dr_toolkit.reporting"
_TABLE = {
    "postgres-dump": "restore_text",
    "postgres-base": "base_text",
    "bucket": "bucket_text",
    "bucket-replica": "bucket_text",
    "secrets": "secrets_text",
    "helm": "helm_text",
}


class View(Protocol):
    """Text for people, documents for scripts."""

    def replaces(self, prepared: Any) -> bool:
        """Whether something live is replaced, so that somebody must agree."""

    def plan(self, prepared: Any) -> str:
        """What will happen."""

    def plan_document(self, prepared: Any) -> dict[str, Any]:
        """The same for scripts."""

    def done(self, item: Any) -> str:
        """What was done, and what to do next."""

    def done_document(self, item: Any) -> dict[str, Any]:
        """The same for scripts."""


def view_of(kind: str) -> View:
    """How restores of this kind are shown. ``kind`` is one that ``jobs.kinds`` knows."""
    return cast("View", importlib.import_module(f"{_REPORTING}.{_TABLE[kind]}"))


def incomplete(view: View, item: Any) -> bool:
    """Whether a part failed although there is something to show; of most kinds an error says so instead."""
    asked = getattr(view, "incomplete", None)
    return bool(asked(item)) if asked else False
