"""What all sections of ``drctl.yaml`` have in common, and the sections that several kinds of component use."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dr_toolkit.config.secrets import SecretRef
from dr_toolkit.config.values import Count, Cron, Duration, HttpUrl, LocalPath, Text

OF_PARENT = "of_parent"
"""The type of a problem that is the whole section's rather than the field's that found it."""


class Section(BaseModel):
    """What all parts of the configuration have in common."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # a part is made as a part of the whole, and not once more for itself
        validate_default=True,  # the checks of several fields run whether their own field is given or not
    )


class S3Config(Section):
    """How to reach an S3 server."""

    endpoint: HttpUrl | None = None
    """URL of the server (`https://minio:9000`). Without it Amazon's, for the region."""
    region: Text = "us-east-1"
    """The region; a part of every signature."""
    access_key_id: SecretRef | None = None
    """Reference to the access key's id. Without it the usual AWS chain is asked (environment, profile, web identity, roles)."""
    secret_access_key: SecretRef | None = None
    """Reference to the secret that belongs to `access_key_id`."""
    session_token: SecretRef | None = None
    """Reference to the session token, where the keys are temporary."""
    ca_file: LocalPath | None = None
    """File with certificates (PEM) that are trusted besides the system's."""
    addressing: Literal["path", "virtual"] = "path"
    """Where the bucket's name goes: into the path (most servers), or in front of the host's name."""

    @field_validator("secret_access_key")
    @classmethod
    def _both_or_none(cls, value: SecretRef | None, info: ValidationInfo) -> SecretRef | None:
        if "access_key_id" in info.data and (info.data["access_key_id"] is None) != (value is None):
            raise PydanticCustomError(OF_PARENT, "give both access_key_id and secret_access_key, or neither")
        return value


class ObjectivesConfig(Section):
    """What was promised for a component; `drctl status` compares."""

    rpo: Duration | None = None
    """How much time of data may be lost (`2h`)."""
    rto: Duration | None = None
    """How long coming back may take (`30m`)."""


class RetentionConfig(Section):
    """How many proven snapshots are kept, by age. The newest proven ones are kept whatever is written here."""

    last: Count = 0
    """The newest so many."""
    daily: Count = 0
    """The newest of each of so many days."""
    weekly: Count = 0
    """The newest of each of so many weeks."""
    monthly: Count = 0
    """The newest of each of so many months."""
    yearly: Count = 0
    """The newest of each of so many years."""

    @field_validator("yearly")
    @classmethod
    def _keeps_something(cls, value: int, info: ValidationInfo) -> int:
        if value == 0 and info.data and not any(info.data.values()):
            raise PydanticCustomError(OF_PARENT, "would keep nothing; give at least one number above 0")
        return value


class ComponentFields(Section):
    """What every kind of component has."""

    schedule: Cron | None = None
    """When to back up: the five fields of cron, in `schedule.time_zone` (`15 * * * *`)."""
    objectives: ObjectivesConfig | None = None
    """How much may be lost and how long coming back may take."""
    retention: RetentionConfig | None = None
    """Which snapshots are kept. Without it, all."""
