"""Numbers in sentences: one object, two objects."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number and what it counts, in the form that fits: ``1 object``, ``2 objects``, ``0 objects``.

    Args:
        count: how many.
        one: the words after a one; with the verb, where it follows (``object is``).
        many: the words after every other number; the plural of ``one`` by an "s", if not given.

    Returns:
        The number and its words.
    """
    return f"{count} {one if count == 1 else many if many is not None else one + 's'}"
