"""The small kinds of text that a configuration is made of. Each check raises ValueError with what was expected."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)

from dr_toolkit.config.secrets import SecretRef, is_reference, literal_password

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_DURATION_PATTERN = r"^(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
_SIZE = re.compile(r"(\d{1,9})([KMGT])iB?")
_PERCENT = re.compile(r"(100|[1-9]?[0-9])%")
_DAYS = "sun mon tue wed thu fri sat"
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec"
_CRON_FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("", *_MONTHS.split())),
    ("day of week", 0, 7, tuple(_DAYS.split())),
)
_POSTGRES_SCHEMES = ("postgresql://", "postgres://", "jdbc:postgresql://")


def parse_duration(value: Any) -> timedelta:
    """Read ``2h``, ``30m``, ``1d12h``, ``45s``.

    Raises:
        ValueError: it is no duration, or nothing at all.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("expected a duration such as 2h, 30m or 1d12h")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    duration = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not duration:
        raise ValueError("expected a duration longer than nothing, such as 2h")
    return duration


def check_cron(text: str) -> str:
    """Accept a cron expression of five fields.

    Raises:
        ValueError: a field is missing, or outside its range.
    """
    parts = text.split()
    if len(parts) != len(_CRON_FIELDS):
        raise ValueError(
            'expected the five fields of cron: minute, hour, day of month, month, day of week ("15 * * * *")'
        )
    for part, (name, low, high, words) in zip(parts, _CRON_FIELDS, strict=True):
        for item in part.lower().split(","):
            _check_cron_item(item, name, low, high, words)
    return text


def _check_cron_item(item: str, name: str, low: int, high: int, words: tuple[str, ...]) -> None:
    span, slash, step = item.partition("/")
    ends = [] if span == "*" else span.split("-")
    numbers = [
        words.index(end) if end and end in words else int(end) if end.isdecimal() else -1 for end in ends
    ]
    fits = len(ends) <= 2 and all(low <= number <= high for number in numbers) and numbers == sorted(numbers)  # noqa: PLR2004 - from-to
    if not fits or (slash and not (step.isdecimal() and int(step) > 0)):
        raise ValueError(
            f'cron\'s {name} does not know "{item}" (from {low} to {high}, "*", "a-b", "*/n", lists with ",")'
        )


def _check_repository_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise ValueError(
            "credentials do not belong into the URL; use s3.access_key_id and s3.secret_access_key"
        )
    if parts.query or parts.fragment:
        raise ValueError('expected no "?" and no "#" in the URL')
    if parts.scheme == "s3" and parts.netloc:
        return text.rstrip("/")
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and parts.path != "/":
        return text.rstrip("/")
    raise ValueError('expected "s3://bucket/prefix" or "file:///path"')


def _check_bucket_url(text: str) -> str:
    if not text.startswith("s3://"):
        raise ValueError('expected "s3://bucket" or "s3://bucket/folder"')
    return _check_repository_url(text)


def _check_limit(value: Any) -> str | int:
    """``10%``, or a number of objects."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        return value
    raise ValueError('expected a percentage in quotes ("10%") or a number of objects')


def parse_size(value: Any) -> int:
    """Read ``512Mi``, ``10Gi``, ``10GiB``, or a number of bytes.

    Raises:
        ValueError: it is no size, or nothing at all.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError("expected a size such as 512Mi or 10Gi")
    return int(match[1]) << (10 * "KMGT".index(match[2]) + 10)


def parse_size_or_none(value: Any) -> int:
    """Read a size, or 0.

    Raises:
        ValueError: it is neither.
    """
    return 0 if value == 0 and not isinstance(value, bool) else parse_size(value)


def _check_connection_url(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a URL, or a reference to one")  # noqa: TRY004 - pydantic collects ValueErrors
    if is_reference(value):
        return SecretRef(value)
    if not value.startswith(_POSTGRES_SCHEMES):
        raise ValueError(
            'expected "postgresql://…", "jdbc:postgresql://…", or a reference such as "env:CDK_DATABASE_URL"'
        )
    if literal_password(value):
        raise ValueError(
            'the URL holds a password; use "password", or put the URL itself behind a reference ("env:NAME")'
        )
    return value


def _check_http_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError('expected "https://host:port" (or http)')
    if parts.username or parts.password:
        raise ValueError("credentials do not belong into the address")
    return text.rstrip("/")


def _absolute(text: str, info: ValidationInfo) -> str:
    """A relative path counts from the directory of the configuration, wherever drctl was started."""
    directory = (info.context or {}).get("directory")
    if directory is None:
        return text
    return str(Path(directory) / Path(text).expanduser())


def _absolute_or_system(text: str, info: ValidationInfo) -> str:
    return text if text == "system" else _absolute(text, info)


Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,40}$")]
Port = Annotated[int, Field(strict=True, ge=1, le=65535)]
Count = Annotated[int, Field(strict=True, ge=0)]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN, "examples": ["2h", "30m"]}),
]
Cron = Annotated[str, AfterValidator(check_cron)]
LocalPath = Annotated[Text, AfterValidator(_absolute)]
CertificatePath = Annotated[Text, AfterValidator(_absolute_or_system)]
BucketUrl = Annotated[str, AfterValidator(_check_bucket_url)]
Limit = Annotated[str | int, PlainValidator(_check_limit, json_schema_input_type=str | int)]
Size = Annotated[int, PlainValidator(parse_size, json_schema_input_type=str | int)]
SizeOrNone = Annotated[int, PlainValidator(parse_size_or_none, json_schema_input_type=str | int)]
RepositoryUrl = Annotated[str, AfterValidator(_check_repository_url)]
HttpUrl = Annotated[str, AfterValidator(_check_http_url)]
ConnectionUrl = Annotated[str, PlainValidator(_check_connection_url, json_schema_input_type=str)]
Trust = Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9_+/=-]+$")]
