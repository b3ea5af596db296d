"""What ``drctl doctor`` found, as text and as a document."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from dr_toolkit.jobs.findings import LEVELS, Finding, exit_code
from dr_toolkit.words import counted

_LONG, _WIDTH = 200, 120
_INDENT = " " * 10
_WORDS = {"failed": "FAILED ", "warning": "WARNING", "note": "note   ", "ok": "ok     "}


def text(findings: Sequence[Finding]) -> str:
    """The worst first; what is fine in one line each."""
    lines = []
    for one in sorted(findings, key=lambda f: LEVELS.index(f.level)):
        on = f"{one.on}: " if one.on and not _names(one.what, one.on) else ""
        lines.append(_wrapped(f"{_WORDS[one.level]} {one.area}: {on}{one.what}"))
        if one.why:
            lines.append(f"          why: {one.why}")
        if one.todo:
            lines.append(f"          do:  {one.todo}")
    counts = Counter(one.level for one in findings)
    summary = f"{counts['failed']} failed, {counted(counts['warning'], 'warning')}, {counted(counts['note'], 'note')}, {counts['ok']} ok"
    return "\n".join([*lines, "", summary, ""])


def _names(what: str, on: str) -> bool:
    """Whether a sentence has the name as a word; a component's name within a bucket's URL says nothing about the component."""
    return re.search(rf"(?<![\w/.-]){re.escape(on)}(?![\w/-])", what) is not None


def _wrapped(line: str) -> str:
    """A line with a long list in it, on several. What is to be copied (``do:``) never comes here."""
    if len(line) <= _LONG:
        return line
    return textwrap.fill(
        line, _WIDTH, subsequent_indent=_INDENT, break_long_words=False, break_on_hyphens=False
    )


def document(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for scripts."""
    counts = Counter(one.level for one in findings)
    return {
        "healthy": exit_code(findings) == 0,
        "counts": {level: counts[level] for level in LEVELS},
        "findings": [
            {
                "level": one.level,
                "area": one.area,
                "on": one.on or None,
                "what": one.what,
                "why": one.why or None,
                "todo": one.todo or None,
                "rule": one.rule or None,
            }
            for one in findings
        ],
    }
