"""The recipient ``key-file``: what it wraps opens with the same key and binding only, and the file stays private."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dr_toolkit.errors import ConfigError, KeyRefused
from dr_toolkit.keys import key_file
from dr_toolkit.keys.key_file import KeyFile

BINDING = b"repository, epoch, purpose"
SECRET = bytes(range(64))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "drctl.key"
    key_file.generate(str(path))
    return path


@pytest.fixture
def recipient(path):
    return KeyFile("demo", "both", str(path))


def flip(text, at):
    raw = bytearray(base64.b64decode(text.removeprefix("kf1:")))
    raw[at] ^= 1
    return "kf1:" + base64.b64encode(raw).decode()


def test_what_was_wrapped_is_unwrapped(recipient):
    """Secrets of every size come back, and no two wraps are alike."""
    for secret in (b"", b"x", SECRET, bytes(4096)):
        wraps = {recipient.wrap(secret, BINDING) for _ in range(3)}
        assert len(wraps) == 3
        assert {recipient.unwrap(text, BINDING) for text in wraps} == {secret}
    assert (recipient.name, recipient.kind, recipient.role) == ("demo", "key-file", "both")


def test_the_text_is_as_the_format_says(recipient, path):
    """Another program with the key opens it: prefix, nonce, associated data, hash of the binding, secret."""
    key = bytes.fromhex(path.read_text().splitlines()[1])
    text = recipient.wrap(SECRET, BINDING)
    raw = base64.b64decode(text[len("kf1:") :], validate=True)
    assert AESGCM(key).decrypt(raw[:12], raw[12:], BINDING) == hashlib.sha256(BINDING).digest() + SECRET


def test_another_binding_does_not_open(recipient):
    """A wrap that was moved to another repository, epoch or purpose is refused."""
    text = recipient.wrap(SECRET, BINDING)
    for other in (b"", BINDING[:-1], BINDING + b"\0"):
        with pytest.raises(KeyRefused):
            recipient.unwrap(text, other)


def test_another_key_does_not_open(recipient, tmp_path):
    """Another key file is refused, with a hint that does not show either."""
    key_file.generate(str(tmp_path / "other"))
    with pytest.raises(KeyRefused) as caught:
        KeyFile("other", "both", str(tmp_path / "other")).unwrap(recipient.wrap(SECRET, BINDING), BINDING)
    assert caught.value.on == "other"


def test_altered_text_does_not_open(recipient):
    """Every flipped bit, cut and foreign text is refused."""
    text = recipient.wrap(SECRET, BINDING)
    length = len(base64.b64decode(text[4:]))
    altered = [flip(text, at) for at in range(length)]
    altered += [
        text[:-4],
        text[4:],
        "",
        "kf1:",
        "kf1:AAAA",
        "kf1:!!!!",
        "vault:v1:AAAA",
        text + "\n",
        "kf1:é",
    ]
    for bad in altered:
        with pytest.raises(KeyRefused):
            recipient.unwrap(bad, BINDING)


def test_the_inner_hash_is_checked(recipient, path):
    """Even under the right key and associated data, the hash of the binding must be inside."""
    key = bytes.fromhex(path.read_text().splitlines()[1])
    nonce = os.urandom(12)
    for inner in (b"", SECRET, bytes(32) + SECRET):
        forged = "kf1:" + base64.b64encode(nonce + AESGCM(key).encrypt(nonce, inner, BINDING)).decode()
        with pytest.raises(KeyRefused):
            recipient.unwrap(forged, BINDING)


def test_generated_files_are_private_and_never_replaced(path):
    """Mode 0600 whatever the umask, two lines, and a second generation is refused without touching the first."""
    before = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.fullmatch(r"drctl key file, version 1\n[0-9a-f]{64}\n", before)
    with pytest.raises(ConfigError):
        key_file.generate(str(path))
    assert path.read_text() == before


def test_generating_where_nothing_can_be_made(tmp_path):
    """A missing folder is a configuration error."""
    with pytest.raises(ConfigError):
        key_file.generate(str(tmp_path / "no" / "where"))


def test_generating_beside_the_working_directory(tmp_path, monkeypatch):
    """A bare file name works."""
    monkeypatch.chdir(tmp_path)
    key_file.generate("bare.key")
    assert KeyFile("x", "both", "bare.key").wrap(b"", b"")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o777, 0o610])
def test_a_file_that_others_can_read_is_refused(recipient, path, mode):
    """One's own key file is open to nobody else; the hint says how."""
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        recipient.wrap(SECRET, BINDING)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_file_given_by_somebody_else_may_be_readable_by_the_group(recipient, path):
    """A Secret mounted by Kubernetes belongs to root and is read through the group."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 65534, 65534)
    path.chmod(0o440)
    assert recipient.unwrap(recipient.wrap(SECRET, BINDING), BINDING) == SECRET
    path.chmod(0o444)
    with pytest.raises(ConfigError):
        recipient.wrap(SECRET, BINDING)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"drctl key file, version 1\n",
        b"drctl key file, version 2\n" + b"CANARY00" * 8 + b"\n",
        b"c0ffee11" * 8 + b"\n",
        b"drctl key file, version 1\n" + b"c0ffee1" * 9 + b"\n",
        b"drctl key file, version 1\n" + b"c0ffee11" * 8 + b"\n\n",
        b"drctl key file, version 1\n" + b"c0ffee11" * 8 + b"\nmore",
        b"drctl key file, version 1\n" + b"c0ffeexx" * 8 + b"\n",
        b"CANARY\xff\xfe" * 100,
        b"x" * 10_000,
    ],
)
def test_what_is_not_a_key_file_is_refused_without_showing_it(recipient, path, content):
    """Malformed files are configuration errors; none of their content is repeated."""
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        recipient.unwrap("kf1:AAAA", BINDING)
    said = repr(caught.value) + str(caught.value.hint) + repr(caught.value.__cause__)
    assert not re.search("CANARY|c0ffee|xxxx", said)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    """The hint is a command."""
    with pytest.raises(ConfigError) as caught:
        KeyFile("demo", "both", str(tmp_path / "none")).wrap(b"", b"")
    assert "drctl keys generate-file" in caught.value.hint


def test_a_folder_is_not_a_key_file(tmp_path):
    """Unreadable things are configuration errors."""
    with pytest.raises(ConfigError):
        KeyFile("demo", "both", str(tmp_path)).wrap(b"", b"")


def test_nothing_shows_the_key(recipient, path):
    """Neither repr, description nor attributes hold the key."""
    key = path.read_text().splitlines()[1]
    recipient.wrap(SECRET, BINDING)
    assert key not in repr(recipient) + recipient.describe() + str(vars(recipient))
    assert str(path) in recipient.describe()


def test_relative_paths(path, monkeypatch):
    """A path is used as it is given."""
    monkeypatch.chdir(Path(path).parent)
    assert KeyFile("x", "both", path.name).wrap(b"1", b"2").startswith("kf1:")
