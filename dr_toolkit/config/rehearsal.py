"""The section ``rehearsal`` of an application: how its new version is tried on a restored copy before an upgrade."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

from dr_toolkit.config.scratch import Quantity
from dr_toolkit.config.section import Section
from dr_toolkit.config.values import Duration, Name, Text

_VARIABLE = r"^[-._a-zA-Z][-._a-zA-Z0-9]*$"


def _check_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


Pattern = Annotated[Text, AfterValidator(_check_pattern)]
Variable = Annotated[str, Field(pattern=_VARIABLE)]


class RehearsalConfig(Section):
    """How `drctl pre-upgrade --rehearse` starts the new version on a restored copy of the database, in a scratch namespace."""

    component: Name | None = None
    """The component that is its main database, of kind `postgres-dump`. Default: the only one of that kind, or `console-db`."""
    image: Text | None = None
    """The image of the new version (`docker.io/conduktor/conduktor-console:1.48.0`). Default: the chart's, or that of the release with the version that is upgraded to as its tag."""
    environment: dict[Variable, Text] = Field(default={})
    """Variables that the container gets besides: a text, or a reference to a secret (`CDK_LICENSE: "env:CDK_LICENSE"`). All others that held a secret get throw-away values."""
    expected_errors: list[Pattern] = Field(default=[])
    """Regular expressions: lines of the log with the level ERROR that fit one are no reason for NO-GO. What a closed network explains is known already."""
    cpu: Quantity | None = None
    """Processor that its container asks for. Default: as the chart says, else `1`."""
    memory: Quantity | None = None
    """Memory of its container, asked for and at most. Default: as the chart says, else `2Gi`."""
    start_timeout: Duration = timedelta(minutes=5)
    """How long its image and room on a node are waited for."""
    timeout: Duration = timedelta(minutes=15)
    """How long its migrations may take until its health endpoint answers."""
    settle: Duration = timedelta(seconds=10)
    """How long it must stay healthy after that."""
