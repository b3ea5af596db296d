"""What a real server says about its health, in words: ready, not ready, not trusted, silent, gone."""

from __future__ import annotations

import pytest

from devstack.tls import Authority
from dr_toolkit.cluster import health
from tests.health_server import HealthServer


@pytest.mark.parametrize(("kind", "version"), [("console", "1.46.0"), ("gateway", "3.9.0")])
def test_each_kind_is_asked_where_it_answers(kind, version):
    """Ready, with its own version; a version that is no text, no JSON or no page is only not known."""
    with HealthServer() as server:
        found = health.ask(kind, f"{server.url}/")
        assert (found.ready, found.version, f"version {version}" in found.text) == (True, version, True)
        for odd in (b'{"platform": 7, "gateway": []}', b"<html>", b"\xff", b"[]", None):
            server.versions = odd
            found = health.ask(kind, server.url)
            assert (found.ready, found.version) == (True, ""), odd


@pytest.mark.parametrize("status", [503, 500, 404, 302, 204])
def test_any_other_answer_is_not_ready_and_says_which(status):
    """Also a redirect: it is not followed to somewhere else."""
    with HealthServer() as server:
        server.status = status
        found = health.ask("console", server.url)
        assert (found.ready, found.version) == (False, "1.46.0")
        assert f"/api/health/ready answers {status}" in found.text


def test_a_private_authority_is_trusted_when_it_is_named(tmp_path):
    """Without its certificate the answer is refused, in words that say what to configure; another authority's helps as little."""
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    with HealthServer(authority) as server:
        assert health.ask("gateway", server.url, str(authority.ca_file)).ready
        for trusted in (None, str(other.ca_file)):
            found = health.ask("gateway", server.url, trusted)
            assert (found.ready, found.version) == (False, "")
            assert "certificate" in found.text
            assert '"ca_file"' in found.text
    missing = health.ask("gateway", server.url, str(tmp_path / "missing.pem"))
    assert not missing.ready


def test_a_server_that_does_not_answer_is_waited_for_no_longer_than_asked():
    """One that accepts and stays silent, and one that is gone: not ready, each with its reason."""
    with HealthServer() as server:
        server.held.clear()
        found = health.ask("console", server.url, timeout_s=0.3)
        assert (found.ready, "nothing came within 0.3 s" in found.text) == (False, True)
    found = health.ask("console", server.url)
    assert (found.ready, "refused" in found.text) == (False, True)
