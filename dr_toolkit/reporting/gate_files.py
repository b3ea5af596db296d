"""The gate's report as files: one self-contained HTML page, and JUnit XML for pipelines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from dr_toolkit import clock, log
from dr_toolkit.jobs.gate import CHECKS, Check
from dr_toolkit.jobs.pre_upgrade import Report
from dr_toolkit.reporting import gate_text, page, rehearsal_text
from dr_toolkit.reporting.text import duration, size

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def html(report: Report) -> bytes:
    """One page without anything from elsewhere; secrets are masked as in every answer."""
    go = report.verdict.go
    question = report.request.question
    about = " to ".join(escape(part) for part in (question.release, question.to_version) if part)
    body = [
        f"<h1>Gate before the upgrade{f' of {about}' if about else ''}, {clock.rfc3339(report.moment)}</h1>",
        f'<p class="answer {"go" if go else "no"}">{"GO" if go else "NO-GO"}</p>',
        _reasons("Reasons", report.verdict.reasons),
        _reasons("Accepted by a person", report.verdict.accepted),
        _point(report),
        _back(report),
        rehearsal_text.page(report.rehearsal) if report.rehearsal is not None else "",
        _checks(report),
        f'<p class="quiet">It took {duration(sum(report.seconds.values()))}: '
        + ", ".join(f"{escape(stage)} {duration(value)}" for stage, value in report.seconds.items())
        + ".</p>",
    ]
    title = f"{'GO' if go else 'NO-GO'}: gate before the upgrade"
    return log.masked(page.whole(title, "".join(body))).encode()


def junit(report: Report) -> bytes:
    """A test case for each check: failed where it counts against GO, with a note where it was accepted."""
    accepted, reasons = set(report.verdict.accepted), set(report.verdict.reasons)
    extra = [check for check in report.verdict.reasons if check not in report.checks]
    checks = [*report.checks, *extra]
    cases = "".join(_case(check, against=check in reasons, accepted=check in accepted) for check in checks)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<testsuite name="drctl pre-upgrade" tests="{len(checks)}" failures="{len(reasons)}" errors="0" skipped="{len(accepted)}" '
        f'time="{sum(report.seconds.values()):.3f}" timestamp="{clock.rfc3339(report.moment)}">\n{cases}</testsuite>\n'
    )
    return log.masked(text).encode()


def _case(check: Check, *, against: bool, accepted: bool) -> str:
    inner = ""
    if against:
        hint = f"\nnext: {check.hint}" if check.hint else ""
        inner = (
            f'<failure message="{_xml(check.text)}" type="{check.state}">{_xml(check.text + hint)}</failure>'
        )
    elif accepted:
        inner = f'<skipped message="accepted: {_xml(check.text)}"/>'
    return f'  <testcase classname="drctl.{_xml(check.component or "gate")}" name="{_xml(check.name)}">{inner}</testcase>\n'


def _xml(text: str) -> str:
    return escape(_NO_XML.sub("\ufffd", text), quote=True)


def _reasons(title: str, checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    items = []
    for check in checks:
        hint = f'<br><span class="next">next: {page.words(check.hint)}</span>' if check.hint else ""
        items.append(f"<li><b>{escape(gate_text.place(check))}</b>: {page.words(check.text)}{hint}</li>")
    return f"<h2>{title}</h2><ol>{''.join(items)}</ol>"


def _point(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(s.id)}</code></td><td>{page.words(s.header.time)}</td>"
        f"<td>{size(s.header.bytes_source)}</td></tr>"
        for name, s in report.snapshots.items()
    )
    if not rows:
        return ""
    title = "Recovery point"
    if report.point:
        pinned = f"pinned until {clock.rfc3339(report.pin)}" if report.pin else "not pinned"
        title += f" <code>{escape(report.point.name)}</code>, {pinned}"
    head = "<tr><th>component</th><th>snapshot</th><th>taken</th><th>content</th></tr>"
    return f"<h2>{title}</h2><table>{head}{rows}</table>"


def _back(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(row.component)}</td><td><code>{escape(row.command)}</code></td>"
        f"<td>{'never proven' if row.seconds is None else duration(row.seconds)}</td><td>{page.words(row.time)}</td></tr>"
        for row in gate_text.way_back(report.snapshots, report.proven)
    )
    if not rows:
        return ""
    head = (
        "<tr><th>component</th><th>command</th><th>its proof took</th><th>lost: all written after</th></tr>"
    )
    whole = (
        f"<p>Everything: <code>{escape(gate_text.everything(report.point))}</code></p>"
        if report.point
        else ""
    )
    return f"<h2>The way back</h2>{whole}<table>{head}{rows}</table>"


def _checks(report: Report) -> str:
    accepted = set(report.verdict.accepted)
    rows = []
    for check in sorted(report.checks, key=lambda c: (list(CHECKS).index(c.name), c.component or "")):
        state = "accepted" if check in accepted else check.state
        shown = {"unknown": "not checked"}.get(state, state)
        rows.append(
            f'<tr><td>{escape(gate_text.place(check))}</td><td class="{state}">{shown}</td><td>{page.words(check.text)}</td></tr>'
        )
    return f"<h2>Everything that was looked at</h2><table><tr><th>check</th><th>result</th><th>found</th></tr>{''.join(rows)}</table>"
