"""The end of the demo: what was shown, with sizes and times."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from devstack.demo_screen import Screen
from dr_toolkit.reporting.text import size

PREPARATION = ("start", "fill")


@dataclass
class Figures:
    """What is measured on the way.

    Attributes:
        began: when the demo began.
        seconds: how long things took, by name.
        snapshots: both, as JSON documents.
    """

    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    snapshots: list[dict[str, Any]] = field(default_factory=list)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measure what happens inside.

        Args:
            name: what it is.
        """
        started = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started


def show(screen: Screen, figures: Figures) -> None:
    """Print the summary.

    Args:
        screen: where to.
        figures: what was measured.
    """
    first, second = figures.snapshots
    shown = [
        ("backup", "first", f"{size(first['bytes_source'])} read, {size(first['bytes_stored'])} stored"),
        ("next backup", "second", f"{size(second['bytes_stored'])} stored, for 1% more audit log"),
        ("theft", "theft", "the backup job cannot read what it wrote"),
        ("proof", "verify", "restored into a throw-away server, compared"),
        ("restore", "restore", "content equal; the damaged database is kept"),
        ("no lock-in", "rescue", "equal again without Vault and without drctl"),
    ]
    screen.blank()
    screen.title("What you saw, on real servers")
    for name, key, text in shown:
        if key in figures.seconds:
            screen.ok(f"{name:<12} {text:<50} {figures.seconds[key]:>5.1f} s")
    prepared = sum(figures.seconds[name] for name in PREPARATION)
    screen.blank()
    screen.say(
        f"All of it took {time.monotonic() - figures.began:.0f} s; {prepared:.0f} s of them went into starting the"
        " servers and making the database. Go on with docs/quickstart.md and a database of your own."
    )
