"""Secrets are fetched by reference, and never shown."""

from __future__ import annotations

import pytest

from dr_toolkit import log
from dr_toolkit.config import SecretRef, resolve_secret
from dr_toolkit.errors import ConfigError


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(log, "_patterns", {})


def test_nothing_to_fetch():
    """No reference, no secret."""
    assert resolve_secret(None) is None


def test_environment(monkeypatch):
    """An environment variable is taken as it is."""
    monkeypatch.setenv("DRCTL_TEST_SECRET", " value-of-it ")
    assert resolve_secret(SecretRef("env:DRCTL_TEST_SECRET")) == " value-of-it "


@pytest.mark.parametrize(
    ("content", "expected"), [(b"abcd\n", "abcd"), (b"abcd\r\n", "abcd"), (b"ab\n\n", "ab\n"), (b" a", " a")]
)
def test_file(tmp_path, content, expected):
    """One newline at the end of a file belongs to the editor, everything else to the secret."""
    (tmp_path / "s").write_bytes(content)
    assert resolve_secret(SecretRef(f"file:{tmp_path}/s")) == expected


def test_vault():
    """Vault is asked by path and field."""
    assert (
        resolve_secret(SecretRef("vault:kv/drctl#restore"), vault=lambda *place: "@".join(place))
        == "kv/drctl@restore"
    )


def test_missing_secrets_name_the_reference(tmp_path, monkeypatch):
    """What is not there is named by its reference."""
    monkeypatch.delenv("DRCTL_TEST_SECRET", raising=False)
    for ref in ("env:DRCTL_TEST_SECRET", f"file:{tmp_path}/none", "vault:kv/x#y"):
        with pytest.raises(ConfigError) as caught:
            resolve_secret(SecretRef(ref))
        assert f'"{ref}"' in caught.value.message


@pytest.mark.parametrize("content", [b"", b"\n", b"\xffCANARY-8f2", b"CANARY-8f2" * 10_000])
def test_unusable_secrets_are_not_shown(tmp_path, content):
    """Empty, not text, or too large: an error, with no byte of it."""
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        resolve_secret(SecretRef(f"file:{tmp_path}/s"))
    assert "CANARY" not in caught.value.message
    assert caught.value.__cause__ is None


def test_resolved_secrets_are_masked(monkeypatch):
    """From the moment a secret is known, nothing repeats it."""
    monkeypatch.setenv("DRCTL_TEST_SECRET", "planted-canary")
    resolve_secret(SecretRef("env:DRCTL_TEST_SECRET"))
    assert log.masked("password=planted-canary!") == "password=***!"


def test_password_inside_a_url_is_masked(monkeypatch):
    """A URL that holds a password makes the password a secret too, as written and as meant."""
    monkeypatch.setenv("DRCTL_TEST_SECRET", "jdbc:postgresql://u:planted%2Fcanary@db/x?password=other-canary")
    resolve_secret(SecretRef("env:DRCTL_TEST_SECRET"))
    assert log.masked("a planted%2Fcanary b planted/canary c other-canary") == "a *** b *** c ***"


@pytest.mark.parametrize("text", ["env:A", "env:_a1", "file:/x y", "vault:kv/a#b"])
def test_references(text):
    """The three forms."""
    assert SecretRef.parse(text) == text


@pytest.mark.parametrize(
    "text", ["", "secret", "env:", "env:1A", "file:relative", "vault:kv/a", "vault:#b", "ENV:A", 5, None]
)
def test_what_is_no_reference(text):
    """Anything else might be the secret itself, and is not repeated."""
    with pytest.raises(ValueError, match="expected a reference to a secret, not the secret"):
        SecretRef.parse(text)
