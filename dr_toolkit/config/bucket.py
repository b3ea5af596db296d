"""The kind of component that is a bucket."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dr_toolkit.config.section import ComponentFields, S3Config
from dr_toolkit.config.values import BucketUrl


class BucketConfig(ComponentFields):
    """The objects of a bucket, or of a folder in it."""

    kind: Literal["bucket"]
    """The kind of component: `bucket`."""
    url: BucketUrl
    """`s3://bucket`, or `s3://bucket/folder` for the keys that begin with `folder/`."""
    s3: S3Config = S3Config()
    """How to reach the server."""
    max_change: Annotated[int, Field(strict=True, ge=0, le=100)] = 50
    """More than this percentage of the last snapshot's objects gone, or rewritten, and the run ends with code 3: a snapshot is taken all the same."""
