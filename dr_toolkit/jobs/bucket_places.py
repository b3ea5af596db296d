"""Where a component's buckets are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

from dr_toolkit.buckets.client import Bucket
from dr_toolkit.config import BucketConfig, Config
from dr_toolkit.jobs import opening


def split(url: str) -> tuple[str, str]:
    """Bucket and prefix of ``s3://bucket/folder``; the prefix ends in a slash, or is empty."""
    parts = urlsplit(url)
    folder = parts.path.strip("/")
    return parts.netloc, f"{folder}/" if folder else ""


@contextmanager
def opened(config: Config, component: BucketConfig, url: str | None = None) -> Iterator[Bucket]:
    """The component's bucket, another one of the same server, or one of its ``places``.

    Args:
        config: whole.
        component: whose bucket.
        url: ``s3://…``, or the name of a place; None for the component's own.
    """
    place = component.places.get(url) if url else None
    name, prefix = split(place.url if place else url or component.url)
    settings = opening.s3_settings((place and place.s3) or component.s3, config)
    with closing(Bucket(name, prefix, settings)) as bucket:
        yield bucket
