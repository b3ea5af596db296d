"""``drctl config check|schema|example``."""

from __future__ import annotations

import json
import os

import pytest

from dr_toolkit import config
from dr_toolkit.cli import main

BROKEN = """\
version: 1
repository: {url: "file:///var/lib/drctl"}
keys: {demo: {type: key-file, path: k}}
components:
  console-db:
    kind: postgres-dump
    connection: {host: db, prot: 1, database: d, user: u, password: CANARY-8f2}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv("DRCTL_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "drctl.yaml"


def test_example_can_be_checked_at_once(file, capsys):
    """The first two commands of a newcomer work together."""
    assert main.run(["config", "example"]) == 0
    file.write_text(capsys.readouterr().out)
    assert main.run(["config", "check"]) == 0
    assert "console-db" in capsys.readouterr().out


def test_check_as_json(file, capsys):
    """A script learns what is configured."""
    file.write_text(config.example())
    assert main.run(["config", "check", "--output", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["valid"] is True
    assert document["components"] == {
        "console-db": "postgres-dump",
        "console-base": "postgres-base",
        "cortex": "bucket",
        "cortex-replica": "bucket",
        "releases": "helm",
        "secrets": "secrets",
    }


def test_check_lists_every_problem_and_repeats_no_secret(file, capsys):
    """Exit 2, all problems with line and path, nothing that may be a secret."""
    file.write_text(BROKEN)
    assert main.run(["config", "check"]) == 2
    shown = capsys.readouterr().err
    assert 'line 7: components.console-db.connection.prot: unknown key; did you mean "port"?' in shown
    assert "line 7: components.console-db.connection.password: expected a reference" in shown
    assert f"on: {file.name}" in shown
    assert "CANARY" not in shown
    assert main.run(["config", "check", "--output", "json", "-vv"]) == 2
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["error"]["problems"]) == 2
    assert "CANARY" not in captured.out + captured.err


def test_schema_is_one_json_document(capsys):
    """The schema can be given to an editor as it is."""
    assert main.run(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == config.schema()


def test_configuration_from_the_environment(file, tmp_path, monkeypatch, capsys):
    """DRCTL_CONFIG names the file where -c does not; -c wins wherever it stands."""
    file.write_text(BROKEN)
    other = tmp_path / "other.yaml"
    other.write_text(config.example())
    monkeypatch.setenv("DRCTL_CONFIG", str(other))
    assert main.run(["config", "check"]) == 0
    assert main.run(["-c", str(file), "config", "check"]) == 2


def test_missing_configuration(file, capsys):
    """No configuration says where it was looked for and how to begin."""
    assert main.run(["config", "check"]) == 2
    assert "drctl config example" in capsys.readouterr().err
    assert main.run(["-c", "none.yaml", "config", "check"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_one(file, capsys):
    """Nested beyond reason, or relative to a directory that is gone: said in words, as wrong usage."""
    file.write_text("[" * 5000)
    assert main.run(["config", "check"]) == 2
    assert "nested too deeply" in capsys.readouterr().err
    gone = file.parent / "gone"
    gone.mkdir()
    file.write_text(config.example())
    os.chdir(gone)
    gone.rmdir()
    assert main.run(["-c", "../drctl.yaml", "config", "check"]) == 2
    assert "the working directory is gone" in capsys.readouterr().err
