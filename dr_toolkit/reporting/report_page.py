"""``drctl report``: what is protected, how well, and since when, as text, as a document, and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from dr_toolkit import clock, log
from dr_toolkit.jobs.gate_record import Stored
from dr_toolkit.jobs.protection import Part, Protection
from dr_toolkit.reporting import documents, page, status
from dr_toolkit.reporting.text import duration, size, table

_POINTS = 3
_Rows = Sequence[Sequence[str]]


def text(found: Protection) -> str:
    """A few lines; the page has more."""
    rows = [["COMPONENT", "SINCE", "SNAPSHOTS", "STORED", "NEWEST", "PROVEN", "STATE"]]
    rows += [_part(part) for part in found.parts]
    parts = [table(rows, frozenset({2, 3}))]
    parts += [
        f"MISSED: {p.standing.component}: {reason}\n" for p in found.parts for reason in p.standing.missed
    ]
    parts += [f"DAMAGED: {problem}\n" for problem in found.problems]
    parts += [
        f"point {p.point.name}: {_state(whole=p.whole, proven=p.proven)}{', pinned' if p.pinned else ''}\n"
        for p in found.points[:_POINTS]
    ]
    parts += [f"last gate: {_gate(found.gates[0])}\n"] if found.gates else []
    if found.drills:
        last = found.drills[0]
        how = "all came back" if last.passed else "NOT ALL CAME BACK"
        parts.append(f"last drill: {last.time}, {last.name}: {how} in {duration(last.seconds)}\n")
    return "".join(parts)


def document(found: Protection) -> dict[str, Any]:
    """The same for scripts."""
    standings = status.document([p.standing for p in found.parts])["components"]
    return {
        "time": clock.rfc3339(found.now),
        "repository": found.url,
        "components": [
            {
                **row,
                "since": clock.rfc3339(part.since) if part.since else None,
                "snapshots": part.snapshots,
                "bytes_stored": part.stored,
                "proofs_passed": part.proofs[0],
                "proofs_failed": part.proofs[1],
            }
            for row, part in zip(standings, found.parts, strict=True)
        ],
        "points": [
            {
                **documents.point(p.point),
                "whole": p.whole,
                "proven": p.proven,
                "pinned_until": clock.rfc3339(p.pinned) if p.pinned else None,
            }
            for p in found.points
        ],
        "gates": [
            {
                "time": clock.rfc3339(g.report.moment),
                "go": g.report.verdict.go,
                "release": g.report.request.question.release,
                "to_version": g.report.request.question.to_version,
                "point": g.report.point.id if g.report.point else None,
            }
            for g in found.gates
        ],
        "drills": [
            {"time": d.time, "name": d.name, "passed": d.passed, "seconds": d.seconds} for d in found.drills
        ],
        "problems": list(found.problems),
    }


def html(found: Protection) -> bytes:
    """One page without anything from elsewhere; secrets are masked as in every answer."""
    well = not found.problems and not any(p.standing.missed for p in found.parts)
    answer = "PROTECTED" if well else "NOT AS PROMISED"
    body = [
        f"<h1>What {escape(found.url)} protects, {clock.rfc3339(found.now)}</h1>",
        f'<p class="answer {"go" if well else "no"}">{answer}</p>',
        _list("Damaged or missing", found.problems),
        _list(
            "Objectives that are not met",
            [f"{p.standing.component}: {reason}" for p in found.parts for reason in p.standing.missed],
        ),
        _table(
            "Components",
            (
                "component",
                "since",
                "good snapshots",
                "stored",
                "newest / RPO",
                "restore took / RTO",
                "proofs",
            ),
            [_page_row(part) for part in found.parts],
        ),
        _table(
            "Recovery points",
            ("point", "taken", "state", "pinned until"),
            [
                (
                    p.point.name,
                    p.point.time,
                    _state(whole=p.whole, proven=p.proven),
                    clock.rfc3339(p.pinned) if p.pinned else "",
                )
                for p in found.points
            ],
        ),
        _table(
            "Gates before upgrades",
            ("time", "answer", "of", "point"),
            [
                (
                    clock.rfc3339(g.report.moment),
                    _answer(g),
                    _about(g),
                    g.report.point.name if g.report.point else "",
                )
                for g in found.gates
            ],
        ),
        _table(
            "Drills",
            ("time", "point", "answer", "took"),
            [
                (d.time, d.name, "all came back" if d.passed else "not all came back", duration(d.seconds))
                for d in found.drills
            ],
        ),
    ]
    return log.masked(page.whole(f"{answer}: {found.url}", "".join(body))).encode()


def _part(part: Part) -> list[str]:
    s = part.standing
    return [
        s.component,
        f"{part.since:%Y-%m-%d}" if part.since else "never",
        str(part.snapshots),
        size(part.stored),
        "none" if s.age is None else f"{duration(s.age)} old",
        "never" if s.proven_age is None else f"{duration(s.proven_age)} old",
        "DAMAGED" if s.problems else "MISSED" if s.missed else "ok",
    ]


def _page_row(part: Part) -> tuple[str, ...]:
    s = part.standing
    passed, failed = part.proofs
    return (
        f"{s.component} ({s.kind})",
        clock.rfc3339(part.since) if part.since else "never",
        str(part.snapshots),
        size(part.stored),
        _against(s.age, s.rpo),
        _against(s.rto_measured, s.rto),
        f"{passed} passed, {failed} failed",
    )


def _against(value: float | None, promised: float | None) -> str:
    shown = "unknown" if value is None else duration(value)
    return shown if promised is None else f"{shown} / {duration(promised)}"


def _state(*, whole: bool, proven: bool) -> str:
    return "proven" if proven else "whole, not proven" if whole else "NOT WHOLE"


def _gate(kept: Stored) -> str:
    point = f', point "{kept.report.point.name}"' if kept.report.point else ""
    return f"{clock.rfc3339(kept.report.moment)}: {_answer(kept)}{point}; again: drctl report gate"


def _answer(kept: Stored) -> str:
    return "GO" if kept.report.verdict.go else "NO-GO"


def _about(kept: Stored) -> str:
    question = kept.report.request.question
    return " to ".join(part for part in (question.release, question.to_version) if part)


def _list(title: str, sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{page.words(one)}</li>" for one in sentences)
    return f"<h2>{title}</h2><ul>{items}</ul>" if items else ""


def _table(title: str, head: Sequence[str], rows: _Rows) -> str:
    if not rows:
        return ""
    names = "".join(f"<th>{name}</th>" for name in head)
    cells = ("".join(f"<td>{page.words(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f"<h2>{title}</h2><table><tr>{names}</tr>{body}</table>"
