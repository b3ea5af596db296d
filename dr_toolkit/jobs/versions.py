"""From which version to which: what the vendor allows. Pure.

Console is upgraded "no more than two versions apart" at a time: its migrations are written for that, and cannot be taken back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dr_toolkit.jobs.gate import Check

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-+.][0-9A-Za-z.+-]+)?")
_CHART = re.compile(r"[a-z][a-z0-9-]*-v?\d+(\.\d+)+.*")
APART = 2
"""So many minor versions may lie between the present one and the next."""


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """Three numbers; what comes behind them does not matter for an upgrade's path."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def parse(text: str) -> Version | None:
    """``1.48.0``, ``v1.48``, ``1.48.0-rc.1``; None for anything else."""
    match = _VERSION.fullmatch(text.strip())
    return Version(int(match[1]), int(match[2]), int(match[3] or 0)) if match else None


def path(current: str, wanted: str) -> Check:
    """Whether the path between two versions is one that the vendor allows."""
    if _CHART.fullmatch(wanted):
        hint = (
            "say which version the chart installs: --to-version X.Y.Z (helm show chart tells its appVersion)"
        )
        return Check(
            "versions",
            None,
            "unknown",
            f'"{wanted}" is a chart, and its version is not the application\'s',
            hint,
        )
    before, after = parse(current), parse(wanted)
    if before is None or after is None:
        strange = current if before is None else wanted
        return Check("versions", None, "unknown", f'"{strange}" is not a version of the form X.Y.Z')
    step = f"from {before} to {after}"
    if after < before:
        hint = "migrations cannot be taken back: restore the recovery point that was taken before them"
        return Check("versions", None, "failed", f"{step} is a step back", hint)
    if after.major != before.major:
        hint = "read the vendor's upgrade guide, then --accept versions"
        return Check("versions", None, "unknown", f"{step} changes the major version", hint)
    apart = after.minor - before.minor
    if apart > APART:
        between = Version(before.major, before.minor + APART, 0)
        text = f"{step} is {apart} minor versions; no more than {APART} are allowed at a time"
        return Check("versions", None, "failed", text, f"upgrade to {between.major}.{between.minor}.x first")
    return Check("versions", None, "ok", f"{step}: {apart} minor versions, and {APART} are allowed")


def arrived(current: str, wanted: str) -> Check:
    """Whether what runs is what was to run, after the upgrade."""
    running, expected = parse(current), parse(wanted)
    if running is None or expected is None:
        strange = current if running is None else wanted
        return Check("versions", None, "unknown", f'"{strange}" is not a version of the form X.Y.Z')
    if running != expected:
        text = f"version {running} is running, and {expected} was to run"
        return Check(
            "versions", None, "failed", text, "look whether the new pods have started: kubectl get pods"
        )
    return Check("versions", None, "ok", f"version {running} is running")
