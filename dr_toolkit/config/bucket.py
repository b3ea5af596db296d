"""The kind of component that is a bucket."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dr_toolkit.config.section import OF_PARENT, ComponentFields, S3Config, Section
from dr_toolkit.config.values import BucketUrl, Limit, Name


class ReplicaTarget(Section):
    """Where a replica lives."""

    url: BucketUrl
    """`s3://bucket`, or `s3://bucket/folder`."""
    s3: S3Config | None = None
    """How to reach its server. Without it, as the component's own."""


class RestorePlace(Section):
    """Another place that a restore may go to."""

    url: BucketUrl
    """`s3://bucket`, or `s3://bucket/folder`."""
    s3: S3Config | None = None
    """How to reach its server. Without it, as the component's own."""


def _from_url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class ScratchBuckets(Section):
    """Where a verification restores into a bucket that it makes for itself."""

    url: BucketUrl
    """How the names of such buckets begin, `s3://drctl-scratch` for one. Each is removed when the verification ends, however it ends."""
    s3: S3Config | None = None
    """How to reach their server. Without it, as the component's own."""

    @field_validator("url")
    @classmethod
    def _no_folder(cls, value: str) -> str:
        if "/" in value.removeprefix("s3://").rstrip("/"):
            raise ValueError("names buckets, so it has no folder")
        return value


class BucketConfig(ComponentFields):
    """The objects of a bucket, or of a folder in it."""

    kind: Literal["bucket"]
    """The kind of component: `bucket`."""
    url: BucketUrl
    """`s3://bucket`, or `s3://bucket/folder` for the keys that begin with `folder/`."""
    s3: S3Config = S3Config()
    """How to reach the server."""
    mode: Literal["snapshot", "replica"] = "snapshot"
    """`snapshot`: content goes into the repository, every run is a full. `replica`: objects are copied as they are to the bucket `to`, which an
    application can use at once; the repository keeps the record of what was copied, and no history."""
    to: Annotated[
        ReplicaTarget | None, BeforeValidator(_from_url, json_schema_input_type=str | ReplicaTarget | None)
    ] = None
    """Where the replica is; only with `mode: replica`. A URL alone means: at the same server."""
    scratch: Annotated[
        ScratchBuckets | None,
        BeforeValidator(_from_url, json_schema_input_type=str | ScratchBuckets | None),
    ] = None
    """Where `drctl verify --restore` makes a bucket of its own, restores into it, and compares objects with their metadata. Without it, into a directory,
    where metadata cannot be compared. A URL alone means: at the same server."""
    places: dict[Name, RestorePlace] = Field(default={})
    """Other places to restore to, by names of your own: `drctl restore COMPONENT --to NAME`. At the same server none is needed: `--to s3://bucket`."""
    tags: Annotated[bool, Field(strict=True)] = False
    """Also keep objects' tags, which takes a request for each object in each run; with `mode: replica` a request on each side."""
    versions: Literal["latest", "all"] = "latest"
    """What a snapshot keeps of a bucket with versioning: the `latest` version of each object, or `all` versions and delete markers with their times and ids."""
    max_delete: Limit = "10%"
    """A replica deletes at most so many objects in one run: a percentage of those recorded, or a number. Above it nothing is deleted and the run ends with code 3."""
    max_change: Annotated[int, Field(strict=True, ge=0, le=100)] = 50
    """More than this percentage of the last snapshot's objects gone, or rewritten, and the run ends with code 3: a snapshot is taken all the same;
    a replica overwrites nothing then."""

    @field_validator("versions")
    @classmethod
    def _history_of_snapshots(cls, value: str, info: ValidationInfo) -> str:
        if value == "all" and info.data.get("mode") == "replica":
            raise ValueError("a replica has the latest versions only; remove it, or use `mode: snapshot`")
        return value

    @field_validator("to")
    @classmethod
    def _only_for_a_replica(cls, value: ReplicaTarget | None, info: ValidationInfo) -> ReplicaTarget | None:
        if (value is None) == (info.data.get("mode") == "replica") and "mode" in info.data:
            raise PydanticCustomError(OF_PARENT, "give `to` with `mode: replica`, and only then")
        return value
