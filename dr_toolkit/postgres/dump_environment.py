"""The environment in which ``pg_dump`` writes equal rows as equal text, whatever a role's or a database's settings are."""

from __future__ import annotations

from collections.abc import Mapping

_TIME_ZONE = {"PGTZ": "UTC", "TZ": "UTC"}
_OPTIONS = "-c bytea_output=hex -c quote_all_identifiers=off"
"""``pg_dump`` fixes the other settings that change its output by itself."""


def comparable(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` with what makes the digests of two dumps comparable. The backup and every later dump must use the same."""
    options = f"{env.get('PGOPTIONS', '')} {_OPTIONS}".strip()
    return {**env, **_TIME_ZONE, "PGOPTIONS": options}
