"""The recipient ``vault`` on a real OpenBao: binding, least privilege, and every refusal as the error that it is."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import secrets
import socket
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from devstack.bao import BaoServer
from devstack.tls import Authority
from dr_toolkit.errors import ConfigError, KeyRefused, KeyUnreachable
from dr_toolkit.keys import vault
from dr_toolkit.keys.vault import VaultKey, VaultSettings, read_kv

BINDING = b"repository, epoch, purpose"
SECRET = bytes(range(64))


@pytest.fixture(scope="module")
def keys(bao_server):
    """The keys of a usual set-up, and one that was made without ``derived``."""
    bao_server.make_transit("drctl-write")
    bao_server.make_transit("drctl-read")
    bao_server.make_transit("plain", derived=False)
    return bao_server


@pytest.fixture
def root(keys):
    """Settings with every right."""
    return VaultSettings(keys.address, keys.root_token)


def key(settings, name="drctl-write", role="write", **more):
    return VaultKey("vault-write", role, settings, name, **more)


def may(server, rules):
    """Settings with exactly these rights."""
    return VaultSettings(server.address, server.make_policy_token(rules))


@pytest.mark.parametrize("name", ["drctl-write", "plain"])
def test_what_was_wrapped_is_unwrapped(root, name):
    """Secrets of every size come back through derived and other keys; no two wraps are alike."""
    recipient = key(root, name)
    for secret in (b"", SECRET, bytes(4096)):
        wraps = {recipient.wrap(secret, BINDING) for _ in range(2)}
        assert len(wraps) == 2
        assert all(text.startswith("vault:v1:") for text in wraps)
        assert {recipient.unwrap(text, BINDING) for text in wraps} == {secret}
    assert (recipient.name, recipient.kind, recipient.role) == ("vault-write", "vault", "write")


@pytest.mark.parametrize("name", ["drctl-write", "plain"])
def test_another_binding_does_not_open(root, name):
    """A wrap that was moved is refused: by the server where the key is derived, by the hash inside where it is not."""
    recipient = key(root, name)
    text = recipient.wrap(SECRET, BINDING)
    for other in (b"", BINDING + b"\0"):
        with pytest.raises(KeyRefused):
            recipient.unwrap(text, other)


def test_the_text_is_as_the_format_says(keys, root):
    """Another program opens it: the context, and the hash of the binding before the secret."""
    bound = hashlib.sha256(BINDING).digest()
    body = {"ciphertext": key(root).wrap(SECRET, BINDING), "context": base64.b64encode(bound).decode()}
    answer = keys.request("POST", "transit/decrypt/drctl-write", body)
    assert base64.b64decode(answer["data"]["plaintext"]) == bound + SECRET


def test_a_wrap_without_the_hash_is_refused(keys, root):
    """What somebody else encrypted with the same key is not taken for a secret."""
    for inner in (b"", SECRET, bytes(32) + SECRET):
        body = {"plaintext": base64.b64encode(inner).decode()}
        text = keys.request("POST", "transit/encrypt/plain", body)["data"]["ciphertext"]
        with pytest.raises(KeyRefused):
            key(root, "plain").unwrap(text, BINDING)


def test_which_keys_bind_by_themselves(root):
    """A derived key is told from one that ignores the context."""
    assert key(root).binds_context() is True
    assert key(root, "plain").binds_context() is False


def test_wraps_survive_a_rotation_of_the_key(keys, root):
    """After Transit's own rotation, old wraps open, and new ones are of the new version."""
    keys.make_transit("rotated")
    old = key(root, "rotated").wrap(SECRET, BINDING)
    keys.request("POST", "transit/keys/rotated/rotate")
    new = key(root, "rotated").wrap(SECRET, BINDING)
    assert (old[:9], new[:9]) == ("vault:v1:", "vault:v2:")
    assert key(root, "rotated").unwrap(old, BINDING) == key(root, "rotated").unwrap(new, BINDING) == SECRET


def test_another_key_or_altered_text_does_not_open(root):
    """Text of another key, cut, altered, or of another kind is refused."""
    text = key(root).wrap(SECRET, BINDING)
    other = "A" if text[20] != "A" else "B"
    with pytest.raises(KeyRefused, match="drctl-read"):
        key(root, "drctl-read").unwrap(text, BINDING)
    for bad in (
        text[:20] + other + text[21:],
        text[:-8],
        text.replace("v1", "v9"),
        "vault:v1:AAAA",
        "kf1:AAAA",
        "",
    ):
        with pytest.raises(KeyRefused):
            key(root).unwrap(bad, BINDING)


def test_the_right_to_decrypt_is_only_that(keys, root):
    """What a CronJob holds opens the catalog key: it cannot wrap, and the read key is closed to it."""
    backup = may(keys, {"transit/decrypt/drctl-write": ["update"]})
    assert key(backup).unwrap(key(root).wrap(SECRET, BINDING), BINDING) == SECRET
    with pytest.raises(KeyRefused) as caught:
        key(backup).wrap(SECRET, BINDING)
    assert 'path "transit/encrypt/drctl-write" { capabilities = ["update"] }' in caught.value.hint
    reading = key(backup, "drctl-read", "read")
    with pytest.raises(KeyRefused) as caught:
        reading.unwrap(key(root, "drctl-read").wrap(SECRET, BINDING), BINDING)
    assert 'path "transit/decrypt/drctl-read" { capabilities = ["update"] }' in caught.value.hint
    with pytest.raises(KeyRefused):
        reading.wrap(SECRET, BINDING)
    with pytest.raises(KeyRefused):
        read_kv(backup, "secret/other", "x")


def test_the_right_to_encrypt_is_only_that(keys):
    """Who may only encrypt can wrap, and opens nothing."""
    adding = may(keys, {"transit/encrypt/drctl-read": ["update"]})
    text = key(adding, "drctl-read").wrap(SECRET, BINDING)
    with pytest.raises(KeyRefused):
        key(adding, "drctl-read").unwrap(text, BINDING)


def test_a_missing_key_is_not_made(keys):
    """With the rights that we ask for, a mistyped name makes no key; the hint says how it is made."""
    typo = key(may(keys, {"transit/+/mistyped": ["update"]}), "mistyped")
    with pytest.raises(KeyRefused):
        typo.wrap(SECRET, BINDING)
    with pytest.raises(KeyRefused, match="does not exist") as caught:
        typo.unwrap("vault:v1:" + "A" * 64, BINDING)
    assert "vault write -f transit/keys/mistyped derived=true" in caught.value.hint


def test_a_missing_mount(root):
    """A wrong mount is named."""
    with pytest.raises(KeyRefused, match="nothing is mounted"):
        key(root, mount="elsewhere").unwrap("vault:v1:AAAA", BINDING)


def test_revoked_and_unknown_tokens(keys):
    """A token that is no longer valid is refused, and shown nowhere."""
    token = keys.make_policy_token({"transit/decrypt/drctl-write": ["update"]})
    keys.revoke_token(token)
    for bad in (token, "hvs.CANARY" + secrets.token_hex(8)):
        settings = VaultSettings(keys.address, bad)
        with pytest.raises(KeyRefused) as caught:
            key(settings).unwrap("vault:v1:AAAA", BINDING)
        failure = caught.value
        said = [repr(failure), failure.hint, repr(failure.__cause__), str(failure.__cause__)]
        assert bad not in " ".join([*said, repr(settings), repr(key(settings)), key(settings).describe()])


@pytest.mark.parametrize("token", ["", "CANARY\n", " CANARY", "CAN\rARY", "CANÄRY", "CANARY\x00"])
def test_tokens_that_cannot_be_sent(token):
    """A token with a line end is found before the HTTP library repeats it in an error."""
    with pytest.raises(ConfigError) as caught:
        VaultSettings("http://127.0.0.1:1", token)
    assert "CAN" not in repr(caught.value)


def test_the_environment_does_not_give_a_token(keys, monkeypatch):
    """The configured token is used, whatever the environment holds for other programs."""
    monkeypatch.setenv("VAULT_TOKEN", keys.root_token)
    monkeypatch.setenv("VAULT_ADDR", keys.address)
    with pytest.raises(KeyRefused):
        key(VaultSettings(keys.address, "unknown")).wrap(SECRET, BINDING)


def test_server_that_is_not_there():
    """A closed port is unreachable: a retry makes sense."""
    with pytest.raises(KeyUnreachable) as caught:
        key(VaultSettings("http://127.0.0.1:1", "token")).unwrap("vault:v1:AAAA", BINDING)
    assert (caught.value.exit_code, caught.value.retry) == (5, True)


def test_answers_that_are_not_vaults():
    """Something else behind the address is unreachable, not a crash."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        do_POST = do_PUT = do_GET  # noqa: N815 -- names of the base class

        def log_message(self, *_):
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as page:
        threading.Thread(target=page.serve_forever, args=(0.05,), daemon=True).start()
        settings = VaultSettings(f"http://127.0.0.1:{page.server_address[1]}", "token")
        for call in (
            lambda: key(settings).wrap(b"", b""),
            lambda: key(settings).unwrap("vault:v1:AAAA", b""),
        ):
            with pytest.raises(KeyUnreachable, match="not Transit's"):
                call()
        with pytest.raises(ConfigError):
            read_kv(settings, "kv/drctl", "restore")
        page.shutdown()


def test_ca_file_that_is_not_there(tmp_path):
    """A wrong path of the certificates is a configuration error."""
    settings = VaultSettings("https://127.0.0.1:1", "token", ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="ca_file"):
        key(settings).unwrap("vault:v1:AAAA", BINDING)


class TlsFront(threading.Thread):
    """Speaks TLS before a plain server, one connection after the other."""

    def __init__(self, server, authority):
        super().__init__(daemon=True)
        self.server = server
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*authority.issue_server())
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"https://127.0.0.1:{self.listener.getsockname()[1]}"

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                self.serve(self.listener.accept()[0])

    def serve(self, plain):
        with contextlib.suppress(OSError), plain, self.context.wrap_socket(plain, server_side=True) as client:
            request = client.recv(1 << 16)
            head, _, body = request.partition(b"\r\n\r\n")
            length = int(re.search(rb"Content-Length: (\d+)", head)[1])
            while len(body) < length:
                body += client.recv(1 << 16)
            with socket.create_connection((self.server.host, self.server.port), 5) as behind:
                behind.sendall(head.replace(b"keep-alive", b"close") + b"\r\n\r\n" + body)
                while data := behind.recv(1 << 16):
                    client.sendall(data)


@pytest.fixture
def tls(keys, tmp_path):
    """The server's address by TLS, and the file of the private authority."""
    authority = Authority(tmp_path / "tls")
    front = TlsFront(keys, authority)
    front.start()
    yield front.address, str(authority.ca_file)
    front.listener.shutdown(socket.SHUT_RDWR)
    front.listener.close()
    front.join(10)


def test_tls_with_a_private_authority(keys, tls, monkeypatch):
    """The configured certificates are trusted, whatever the environment names for other programs."""
    address, ca_file = tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/dev/null")
    recipient = key(VaultSettings(address, keys.root_token, ca_file=ca_file))
    assert recipient.unwrap(recipient.wrap(SECRET, BINDING), BINDING) == SECRET


@pytest.mark.parametrize("other", [False, True])
def test_tls_of_an_unknown_authority_is_refused(keys, tls, tmp_path, monkeypatch, other):
    """Without its certificate, or with another authority's, no token is sent; no environment switches that off."""
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "1")
    ca_file = str(Authority(tmp_path / "other").ca_file) if other else None
    with pytest.raises(KeyUnreachable, match="certificate"):
        key(VaultSettings(tls[0], keys.root_token, ca_file=ca_file)).wrap(SECRET, BINDING)


@pytest.fixture
def own_server(tmp_path):
    """A server that a test may seal and freeze."""
    with BaoServer(tmp_path / "bao") as server:
        server.make_transit("drctl-write")
        yield server


def test_sealed_server(own_server):
    """A sealed server is unreachable for now, and the hint asks the question."""
    recipient = key(VaultSettings(own_server.address, own_server.root_token))
    text = recipient.wrap(SECRET, BINDING)
    own_server.request("PUT", "sys/seal")
    with pytest.raises(KeyUnreachable) as caught:
        recipient.unwrap(text, BINDING)
    assert "sealed" in caught.value.hint


def test_frozen_server(own_server, monkeypatch):
    """A server that takes connections and never answers does not hold a run for ever."""
    monkeypatch.setattr(vault, "TIMEOUT_S", 0.5)
    recipient = key(VaultSettings(own_server.address, own_server.root_token))
    own_server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(KeyUnreachable):
            recipient.wrap(SECRET, BINDING)
        assert time.monotonic() - began < 10
    finally:
        own_server.resume()


def test_server_that_comes_back(own_server):
    """A server that is frozen for a moment is waited for."""
    recipient = key(VaultSettings(own_server.address, own_server.root_token))
    own_server.pause()
    resume = subprocess.Popen(
        [sys.executable, "-c", f"import os,time;time.sleep(1);os.kill({own_server.pid},18)"]
    )
    assert recipient.unwrap(recipient.wrap(SECRET, BINDING), BINDING) == SECRET
    assert resume.wait(10) == 0


@pytest.fixture(scope="module")
def secrets_engines(bao_server):
    """KV engines of both versions with one secret each; one is mounted two levels deep."""
    for mount, version in (("kv", "2"), ("old", "1"), ("team/kv", "2")):
        bao_server.request("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": version}})
    bao_server.request("POST", "kv/data/drctl", {"data": {"restore": "sésame", "number": 5, "empty": ""}})
    bao_server.request("POST", "kv/data/a/b", {"data": {"data": "inner"}})
    bao_server.request("POST", "team/kv/data/drctl", {"data": {"restore": "deep"}})
    bao_server.request("POST", "old/drctl", {"restore": "older", "data": "plain"})
    return bao_server


@pytest.mark.parametrize(
    ("path", "field", "policy", "value"),
    [
        ("kv/drctl", "restore", "kv/data/drctl", "sésame"),
        ("kv/drctl", "empty", "kv/data/drctl", ""),
        ("kv/a/b", "data", "kv/data/a/b", "inner"),
        ("team/kv/drctl", "restore", "team/kv/data/drctl", "deep"),
        ("old/drctl", "restore", "old/drctl", "older"),
        ("old/drctl", "data", "old/drctl", "plain"),
    ],
)
def test_references_to_secrets(secrets_engines, path, field, policy, value):
    """A token that may read exactly one secret gets it, in either version of the engine."""
    assert read_kv(may(secrets_engines, {policy: ["read"]}), path, field) == value


@pytest.mark.parametrize(
    ("path", "field"),
    [("kv/drctl", "none"), ("kv/none", "restore"), ("old/none", "x"), ("kv/drctl", "number")],
)
def test_references_to_nothing(secrets_engines, path, field):
    """No such secret, no such field, or no text: the reference is named, and how to look."""
    settings = VaultSettings(secrets_engines.address, secrets_engines.root_token)
    with pytest.raises(ConfigError) as caught:
        read_kv(settings, path, field)
    assert f"vault:{path}#{field}" in caught.value.message
    assert f"vault kv get {path}" in caught.value.hint


def test_references_that_may_not_be_read(secrets_engines):
    """The policy that is missing is written out."""
    settings = may(secrets_engines, {"kv/data/other": ["read"], "kv/metadata/drctl": ["read"]})
    with pytest.raises(KeyRefused) as caught:
        read_kv(settings, "kv/drctl", "restore")
    assert 'path "kv/data/drctl" { capabilities = ["read"] }' in caught.value.hint


def test_hvac_is_imported_late():
    """Importing the module costs nothing of hvac and requests."""
    code = "import sys, dr_toolkit.keys.vault; assert not {'hvac', 'requests'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
