"""A large bucket is listed by several requests at once: by folders, or by the first characters of their names where there are many.

The server itself names the folders, so that together they are all of the bucket, whatever order it lists in. Each part is checked like a whole
listing: by its end, by its order, and by its prefix, which no other part's begins with.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise

from dr_toolkit.buckets.client import Bucket
from dr_toolkit.buckets.listing import Listed, Listing, page_problem
from dr_toolkit.errors import SourceError

LARGE = 20_000
"""Objects from which on it is worth the requests for folders."""
AT_ONCE = 4
PARTS = 16
"""Parts that are wanted, about."""
_FEW = 4
_DEPTH = 3
_LOOSE_LIMIT = 5000
_FOLDERS_LIMIT = 50_000


@dataclass(slots=True)
class Parts:
    """A bucket in parts.

    Attributes:
        prefixes: none begins with another.
        loose: objects that have none of them.
    """

    prefixes: list[str] = field(default_factory=list)
    loose: list[Listed] = field(default_factory=list)


def fill(bucket: Bucket, listing: Listing, expected: int) -> Listing:
    """List a bucket completely.

    Args:
        bucket: which.
        listing: empty.
        expected: about how many objects there are; 0 when that is not known.

    Raises:
        SourceError: the listing cannot be believed.
    """
    parts = found(bucket) if expected >= LARGE else None
    if parts is None:
        return listing.fill(bucket.pages())
    listing.add(parts.loose)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="drctl-part") as pool:
        try:
            for _done in pool.map(lambda one: listing.fill(bucket.pages(one), one), parts.prefixes):
                pass
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return listing


def found(bucket: Bucket) -> Parts | None:
    """The parts of a bucket; None where it has no folders to speak of."""
    parts, folders = Parts(), [bucket.prefix]
    for _depth in range(_DEPTH):
        deeper: list[str] = []
        for folder in folders:
            try:
                looked = _look(bucket, folder)
            except (
                SourceError
            ):  # not every server can name every folder; what else is wrong the whole listing says
                return None
            if looked is None:
                return None
            deeper += looked.prefixes
            parts.loose += looked.loose
        if len(parts.loose) > _LOOSE_LIMIT or len(deeper) > _FOLDERS_LIMIT:
            return None
        folders = deeper
        if len(folders) >= _FEW or not folders:
            break
    folders.sort()
    if any(other.startswith(one) for one, other in pairwise(folders)):
        return None
    parts.prefixes = grouped(folders) if len(folders) > 2 * PARTS else folders
    # What a group's prefix begins comes with the group.
    groups = tuple(parts.prefixes)
    parts.loose = [o for o in parts.loose if not o.key.startswith(groups)]
    return parts if len(parts.prefixes) > 1 else None


def _look(bucket: Bucket, folder: str) -> Parts | None:
    """What is directly in a folder; None where it is too much, or cannot be believed: a whole listing then says why."""
    here, tokens = Parts(), set[str]()
    for page in bucket.pages(folder, "/"):
        names = [*(o.key for o in page.objects), *page.folders]
        if page_problem(page, tokens) or not all(name.startswith(folder) for name in names):
            return None
        here.prefixes += page.folders
        here.loose += page.objects
        tokens.add(page.token or "")
        if len(here.loose) > _LOOSE_LIMIT or len(here.prefixes) > _FOLDERS_LIMIT:
            return None
        if not page.truncated:
            return here if len(set(here.prefixes)) == len(here.prefixes) else None
    return None


def grouped(folders: Sequence[str]) -> list[str]:
    """Prefixes of which each begins some of the folders; every folder begins with exactly one, and none begins with another.

    Args:
        folders: sorted; none begins with another.
    """
    groups = {"": list(folders)}
    while len(groups) < PARTS:
        largest = max(groups, key=lambda prefix: len(groups[prefix]))
        if len(groups[largest]) <= 1:
            break
        groups |= _split(groups.pop(largest))
    return sorted(groups)


def _split(names: Sequence[str]) -> dict[str, list[str]]:
    """Names by what they share and one character more."""
    pairs = enumerate(zip(names[0], names[-1], strict=False))  # sorted: what these two share, all share
    common = next(at for at, (one, other) in pairs if one != other)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name[: common + 1], []).append(name)
    return groups
