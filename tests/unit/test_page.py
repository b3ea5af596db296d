"""The form of the HTML pages."""

from __future__ import annotations

import re

import pytest

from dr_toolkit.reporting import page

_ENOUGH = 4.5
"""What WCAG 2 asks of text at level AA."""


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colours", [page.LIGHT, page.DARK], ids=["light", "dark"])
def test_every_text_can_be_read_by_day_and_by_night(colours):
    """Each colour of text against each ground that it stands on."""
    pairs = [(ink, "sheet") for ink in ("text", "quiet", "ok", "failed", "accepted")]
    pairs += [("text", "code"), ("answer", "go"), ("answer", "no")]
    assert all(contrast(colours[ink], colours[ground]) >= _ENOUGH for ink, ground in pairs)


def test_a_page_loads_nothing_and_uses_only_colours_that_it_names():
    """It is one file, for an archive or a mail."""
    made = page.whole("a <b>", "body")
    assert not re.search(r"https?:|url\(|@import|src=|href=", made)
    assert "<title>a &lt;b&gt;</title>" in made
    assert set(re.findall(r"var\(--(\w+)\)", made)) == set(page.LIGHT) == set(page.DARK)


def test_words_are_escaped_and_a_time_stays_in_one_piece():
    """A name from a database is text, whatever it looks like."""
    assert page.words('<script>"&') == "&lt;script&gt;&quot;&amp;"
    assert page.words("at 2026-11-26T03:16:08Z.") == 'at <span class="when">2026-11-26T03:16:08Z</span>.'
