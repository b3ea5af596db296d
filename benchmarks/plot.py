"""``python -m benchmarks.plot growth.json docs/buckets-growth.svg``: how time and memory grow with the number of objects.

Two panels beside each other with logarithmic axes: seconds of processor time, which says what the work costs whatever else the machine does, and
memory. A straight line with a slope of one is twice the time for twice the objects.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

WIDTH, HEIGHT = 860, 380
LEFT, TOP, ACROSS, DOWN, BETWEEN = 60, 40, 330, 270, 95
COLOURS = {"first": "#1b6ca8", "unchanged": "#2a9d4a", "restore": "#c4572a"}
Row = dict[str, float]


def main() -> None:
    """Read the figures, write the picture."""
    source, target = map(Path, sys.argv[1:])
    target.write_text(svg(json.loads(source.read_text())))


def svg(rows: Sequence[Row]) -> str:
    """The picture."""
    panels = (
        _panel(rows, "cpu", "processor time, s", 1.0, LEFT),
        _panel(rows, "memory", "memory, MB", 1e-6, LEFT + ACROSS + BETWEEN),
    )
    keys = "".join(
        f'<rect x="{LEFT + 190 * place}" y="{HEIGHT - 26}" width="14" height="4" fill="{colour}"/>'
        f'<text x="{LEFT + 190 * place + 20}" y="{HEIGHT - 20}">{_said(name)}</text>'
        for place, (name, colour) in enumerate(COLOURS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>\n{"".join(panels)}{keys}\n</svg>\n'
    )


def _said(name: str) -> str:
    return {"first": "first snapshot", "unchanged": "nothing changed", "restore": "restore"}[name]


def _panel(rows: Sequence[Row], what: str, title: str, unit: float, left: int) -> str:
    counts = [row["objects"] for row in rows]
    values = [row[f"{name}_{what}"] * unit for name in COLOURS for row in rows]
    across = _scale(min(counts), max(counts), left, left + ACROSS)
    down = _scale(_power(min(values), math.floor), _power(max(values), math.ceil), TOP + DOWN, TOP)
    marks = [
        f'<text x="{left}" y="{TOP - 14}" font-weight="bold">{title}</text>\n',
        f'<rect x="{left}" y="{TOP}" width="{ACROSS}" height="{DOWN}" fill="none" stroke="#999999"/>\n',
    ]
    marks += [
        f'<text x="{across(count):.1f}" y="{TOP + DOWN + 18}" text-anchor="middle">{count:,.0f}</text>\n'
        for count in counts
    ]
    low, high = _power(min(values), math.floor), _power(max(values), math.ceil)
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        height = down(10.0**power)
        marks.append(
            f'<line x1="{left}" y1="{height:.1f}" x2="{left + ACROSS}" y2="{height:.1f}" stroke="#dddddd"/>'
        )
        marks.append(f'<text x="{left - 6}" y="{height + 4:.1f}" text-anchor="end">{10.0**power:g}</text>\n')
    for name, colour in COLOURS.items():
        points = [
            (across(row["objects"]), down(row[f"{name}_{what}"] * unit), row[f"{name}_{what}"] * unit)
            for row in rows
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _value in points)
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, value in points:
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            marks.append(
                f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="middle" fill="{colour}">{value:.3g}</text>\n'
            )
    return "".join(marks)


def _power(value: float, rounded: Callable[[float], int]) -> float:
    """The power of ten beside a value."""
    assert callable(rounded)  # for the type checker
    return float(10.0 ** rounded(math.log10(value)))


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From a value to its place, by its logarithm."""
    span = math.log(high / low)

    def place(value: float) -> float:
        return start + (end - start) * math.log(value / low) / span

    return place


if __name__ == "__main__":
    main()
