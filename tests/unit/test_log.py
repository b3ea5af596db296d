"""The log is silent until asked, and never says a secret."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from dr_toolkit import log


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(log, "_patterns", {})
    yield
    log.silence()


def lines(verbosity: int, style: str = "json", **fields) -> list[str]:
    stream = io.StringIO()
    log.configure(style, verbosity, stream)
    logger = log.get("test")
    for level in ("debug", "info", "warning", "error"):
        getattr(logger, level)(f"a {level}", **fields)
    return stream.getvalue().splitlines()


def test_silent_until_configured(capfd):
    """A library caller hears nothing."""
    log.get("test").error("boom")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("style", "verbosity", "expected"),
    [("text", 0, 2), ("text", 1, 3), ("text", 2, 4), ("json", 0, 3), ("json", 1, 4)],
)
def test_verbosity(style, verbosity, expected):
    """Each -v shows one more level; JSON, which is a record, starts at information."""
    assert len(lines(verbosity, style)) == expected


def test_json_lines_carry_time_level_logger_and_fields():
    """One JSON object a line, made for machines."""
    event = json.loads(lines(0, bytes=3)[0])
    assert event["time"].endswith("Z")
    assert (event["event"], event["level"], event["logger"], event["bytes"]) == ("a info", "info", "test", 3)


def test_text_has_no_colours():
    """A log that is not a terminal gets no escape sequences, and neither does one that is."""
    assert "\x1b" not in "".join(lines(2, "text", key="value"))


@pytest.mark.parametrize("style", ["text", "json"])
def test_secrets_are_masked_in_every_field(style):
    """Wherever a secret hides in an event, it does not come out."""
    log.mask("planted-canary/1")
    error = ValueError("planted-canary/1")
    text = "\n".join(
        lines(
            2,
            style,
            plain="planted-canary/1",
            deep={"a": ["x planted-canary/1 y"]},
            url="p=planted-canary%2F1",
            error=error,
        )
    )
    assert "canary" not in text
    assert log.MASK in text


def test_masks_quoted_forms():
    """A secret quoted for JSON is the same secret."""
    log.mask('pass"word\\1é')
    assert log.masked(json.dumps({"p": 'pass"word\\1é'})) == '{"p": "***"}'
    assert log.masked('x pass"word\\1é y') == "x *** y"


def test_longest_secret_first():
    """A secret that contains another is masked whole."""
    log.mask("abcdefghijkl")
    log.mask("abcdefghijklmnop")
    assert log.masked("abcdefghijklmnop") == "***"


def test_a_short_secret_is_masked_where_it_stands_alone():
    """A password that is a common word must not make other words unreadable."""
    log.mask("postgres")
    assert log.masked("postgres-dump as postgres:postgres@db") == "postgres-dump as ***:***@db"


def test_a_tiny_secret_is_left_alone():
    """Masking one letter would hide the sentence and not the secret."""
    log.mask("a")
    assert log.masked("a sentence") == "a sentence"


def test_document_keeps_shape_and_keys():
    """Masking never breaks a document that a script reads."""
    log.mask("status-is-a-secret")
    document = {"status-is-a-secret": [1, None, True, "status-is-a-secret"]}
    assert log.masked_document(document) == {"status-is-a-secret": [1, None, True, "***"]}


def test_import_is_light():
    """The log can be imported by everything without making --help slow."""
    code = "import sys, dr_toolkit.log; print('structlog' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
