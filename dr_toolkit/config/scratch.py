"""The section ``verify.namespace``: what runs in a scratch namespace, and how much it may take."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from dr_toolkit.config.section import Section
from dr_toolkit.config.values import Duration, Text

_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"


def _by_digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("expected an image by its digest: registry/name@sha256:…")
    return text


Image = Annotated[str, AfterValidator(_by_digest)]
Quantity = Annotated[str, Field(pattern=_QUANTITY)]
MajorText = Annotated[str, Field(pattern=r"^1[3-9]$|^[2-9][0-9]$")]
UserId = Annotated[int, Field(strict=True, ge=1)]


class ScratchNamespaceConfig(Section):
    """What `verify --restore --in namespace` runs, and how much it may take."""

    image: Image
    """drctl's own image, by digest: `registry/drctl@sha256:…`."""
    postgres: dict[MajorText, Image] = Field(default={})
    """PostgreSQL's images by major version, by digest (`"17": postgres@sha256:…`): with `initdb` and `postgres` on the PATH. Needed for `postgres-dump`."""
    postgres_user: UserId = 999
    """The number of the user that PostgreSQL runs as. It must be in the image's `/etc/passwd`: 999 in Debian's official image, 70 in Alpine's."""
    user: UserId = 10001
    """The number of the user that drctl runs as."""
    storage_class: Text | None = None
    """Restore into a PersistentVolumeClaim of this class. Without it, into an `emptyDir` on the node."""
    size: Quantity | None = None
    """Room for what is restored (`20Gi`). Default: one and a half times what the source had, and 5 GiB for WAL and sorting."""
    cpu: Quantity = "1"
    """Processor that each of the two containers asks for."""
    memory: Quantity = "1Gi"
    """Memory of each of the two containers, asked for and at most."""
    quota: dict[Text, Quantity] = Field(default={})
    """What the namespace may take in all, as a ResourceQuota writes it (`limits.memory: 4Gi`). Default: what is needed."""
    start_timeout: Duration = timedelta(minutes=5)
    """How long images, volumes and room on a node are waited for."""
    timeout: Duration = timedelta(hours=2)
    """How long the restore may take. An hour after that the namespace counts as left over."""
