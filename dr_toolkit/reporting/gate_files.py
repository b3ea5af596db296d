"""The gate's report as files: one self-contained HTML page, and JUnit XML for pipelines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from dr_toolkit import clock, log
from dr_toolkit.jobs.gate import CHECKS, Check
from dr_toolkit.jobs.pre_upgrade import Report
from dr_toolkit.reporting import gate_text, rehearsal_text
from dr_toolkit.reporting.text import duration, size

_NO_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;color:#1a2230;background:#f5f6f8;margin:0;padding:2rem 1rem}
main{max-width:60rem;margin:auto;background:#fff;border:1px solid #dde1e7;border-radius:8px;padding:1.5rem 2rem 2rem}
.answer{display:inline-block;margin:0;font-size:2rem;font-weight:700;padding:.2rem 1rem;border-radius:6px;color:#fff}
.go{background:#1a7f37}.no{background:#b42318}h1{font-size:1.1rem;font-weight:600;margin:0 0 1rem}
h2{font-size:1.05rem;margin:2rem 0 .5rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-top:1px solid #e6e9ee}
th{font-weight:600;color:#55606f;border-top:0}td{overflow-wrap:anywhere}td:first-child{white-space:nowrap}
.ok{color:#1a7f37}.failed,.unknown{color:#b42318;font-weight:600}.accepted{color:#8a5a00;font-weight:600}
code{font:14px/1.5 ui-monospace,monospace;background:#f0f2f5;padding:.1rem .35rem;border-radius:4px;overflow-wrap:anywhere}
pre{font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;background:#f0f2f5;padding:.5rem}
.next,.quiet{color:#55606f}li{margin:.4rem 0}
"""


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
    return log.masked(page(title, "".join(body))).encode()


def page(title: str, body: str) -> str:
    """A whole HTML page around a body; it loads nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


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
        hint = f'<br><span class="next">next: {escape(check.hint)}</span>' if check.hint else ""
        items.append(f"<li><b>{escape(gate_text.place(check))}</b>: {escape(check.text)}{hint}</li>")
    return f"<h2>{title}</h2><ol>{''.join(items)}</ol>"


def _point(report: Report) -> str:
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(s.id)}</code></td><td>{escape(s.header.time)}</td>"
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
        f"<td>{'never proven' if row.seconds is None else duration(row.seconds)}</td><td>{escape(row.time)}</td></tr>"
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
            f'<tr><td>{escape(gate_text.place(check))}</td><td class="{state}">{shown}</td><td>{escape(check.text)}</td></tr>'
        )
    return f"<h2>Everything that was looked at</h2><table><tr><th>check</th><th>result</th><th>found</th></tr>{''.join(rows)}</table>"
