"""The section ``platform``: the applications that use what is protected, where they run, and how they are asked about their health."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from dr_toolkit.config.rehearsal import RehearsalConfig
from dr_toolkit.config.section import Section
from dr_toolkit.config.values import HttpUrl, LocalPath, Text

_WORKLOAD = re.compile(r"(deployment|statefulset)/[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def _check_workload(text: str) -> str:
    if not _WORKLOAD.fullmatch(text):
        raise ValueError('expected "deployment/NAME" or "statefulset/NAME"')
    return text


class ApplicationConfig(Section):
    """One application of the platform, such as Console: one Helm release in one namespace."""

    kind: Literal["console", "gateway"]
    """What it is: `console` or `gateway`. It says where its health and its versions are asked for."""
    namespace: Text
    """The namespace that it runs in."""
    release: Text | None = None
    """Its Helm release. Default: the application's name here."""
    workloads: (
        Annotated[list[Annotated[Text, AfterValidator(_check_workload)]], Field(min_length=1)] | None
    ) = None
    """What is scaled to zero and back: `deployment/NAME`, `statefulset/NAME`. Default: all that carry the label `app.kubernetes.io/instance` of the release."""
    url: HttpUrl | None = None
    """Where its endpoints are reached from here (`http://conduktor-console.conduktor`): health and versions. Without it only the workloads are looked at."""
    ca_file: LocalPath | None = None
    """File with certificates (PEM) that are trusted instead of the system's, for `url`."""
    writes: bool = True
    """Whether it writes to what is protected: then a restore of everything scales it to zero first."""
    rehearsal: RehearsalConfig = RehearsalConfig()
    """How its new version is tried before an upgrade (`drctl pre-upgrade --rehearse`); of `console`."""
