"""The form of every HTML page: one file that loads nothing, is readable by day and by night, and can be printed."""

from __future__ import annotations

import re
from html import escape

LIGHT = {
    "text": "#1a2230", "back": "#f5f6f8", "sheet": "#ffffff", "line": "#dde1e7", "quiet": "#55606f", "code": "#f0f2f5",
    "ok": "#1a7f37", "failed": "#b42318", "accepted": "#8a5a00", "answer": "#ffffff", "go": "#1a7f37", "no": "#b42318",
}  # fmt: skip
DARK = {
    "text": "#e6e9ee", "back": "#10151d", "sheet": "#1a212c", "line": "#36404e", "quiet": "#aab4c2", "code": "#0f141b",
    "ok": "#57cf7b", "failed": "#ff8f85", "accepted": "#f0b849", "answer": "#ffffff", "go": "#1a7f37", "no": "#b42318",
}  # fmt: skip
_SHAPE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);margin:0;padding:2rem 1rem}
main{max-width:64rem;margin:auto;background:var(--sheet);border:1px solid var(--line);border-radius:8px;padding:1.5rem 2rem 2rem}
.answer{display:inline-block;margin:0;font-size:2rem;font-weight:700;padding:.2rem 1rem;border-radius:6px;color:var(--answer)}
.go{background:var(--go)}.no{background:var(--no)}h1{font-size:1.25rem;font-weight:600;margin:0 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:2rem 0 .5rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-top:1px solid var(--line)}
th{font-weight:600;color:var(--quiet);border-top:0}td{overflow-wrap:anywhere}td:first-child,.when{white-space:nowrap}
.ok{color:var(--ok)}.failed,.unknown{color:var(--failed);font-weight:600}.accepted{color:var(--accepted);font-weight:600}
code{font:14px/1.5 ui-monospace,monospace;background:var(--code);padding:.1rem .35rem;border-radius:4px;overflow-wrap:anywhere}
pre{font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;background:var(--code);padding:.5rem}
.next,.quiet{color:var(--quiet)}li{margin:.4rem 0}
@media print{body{padding:0}main{border:0;max-width:none;padding:0}.answer{print-color-adjust:exact}}
"""
_WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def whole(title: str, body: str) -> str:
    """A whole HTML page around a body; it loads nothing."""
    style = f":root{{{_variables(LIGHT)}}}@media screen and (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}{_SHAPE}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def words(text: str) -> str:
    """Text of a cell or sentence, escaped; a time in it stays in one piece."""
    return _WHEN.sub(r'<span class="when">\g<0></span>', escape(text))


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())
