"""The rescue script on what the vectors do not have: directories, and names that no file may bear."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dr_toolkit.keys import key_file
from dr_toolkit.keys.key_file import KeyFile
from dr_toolkit.repository import repository
from dr_toolkit.repository.file_store import FileStore
from dr_toolkit.repository.writer import SnapshotWriter

SCRIPT = Path(__file__).parents[2] / "rescue" / "drctl_rescue.py"
OBJECTS = {"a": b"1", "a/b": b"2", "back\\slash": b"3", "x" * 300: b"4", "/": b"5", "\U0010ffffa\x01": b"6"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a cluster and a bucket."""
    root = tmp_path_factory.mktemp("rescue")
    key_file.generate(str(root / "key"))
    store = FileStore(str(root / "repository"), create=True)
    opened = repository.initialise(store, [KeyFile("k", "both", str(root / "key"))], 3600)
    with SnapshotWriter(opened, "base", "postgres-base") as writer:
        for path, kind in (
            ("cluster", "directory"), ("cluster/base", "directory"), ("cluster/base/1", "file"), ("cluster/empty", "directory"),
        ):  # fmt: skip
            writer.begin(path, kind)
            writer.write(b"page" if kind == "file" else b"")
            writer.end({"mode": 0o600})
        writer.commit({})
    with SnapshotWriter(opened, "cortex", "bucket") as writer:
        for path in sorted(OBJECTS, key=str.encode):
            writer.begin(path, "object")
            writer.write(OBJECTS[path])
            writer.end({"type": "text/plain"})
        writer.commit({})
    store.close()
    return root


def rescue(root: Path, component: str, to: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["extract", root / "repository", f"latest:{component}", "--key-file", root / "key", "--to", to]
    return subprocess.run(
        [sys.executable, SCRIPT, *words, *more], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_cluster_is_a_data_directory(root: Path, tmp_path: Path) -> None:
    """Directories are directories, empty ones too, and nobody else may look into them: PostgreSQL insists."""
    done = rescue(root, "base", tmp_path / "out")
    assert (done.returncode, done.stdout) == (0, "4 entries were written\n"), done.stderr
    assert (tmp_path / "out/cluster/base/1").read_bytes() == b"page"
    assert list((tmp_path / "out/cluster/empty").iterdir()) == []
    for path in (tmp_path / "out", *(tmp_path / "out").rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_names_that_no_file_may_bear_are_numbered(root: Path, tmp_path: Path) -> None:
    """Refused as they are; with --numbered every object comes out, and a list says which is which."""
    refused = rescue(root, "cortex", tmp_path / "refused")
    assert (refused.returncode, "--numbered" in refused.stderr) == (3, True)
    assert not (tmp_path / "refused").exists()
    done = rescue(root, "cortex", tmp_path / "out", "--numbered")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/names.jsonl").read_text("ascii").splitlines()]
    assert {row["path"]: (tmp_path / "out" / row["file"]).read_bytes() for row in rows} == OBJECTS
    assert {(row["kind"], row["meta"]["type"]) for row in rows} == {("object", "text/plain")}
    long = rescue(root, "cortex", tmp_path / "long", "--path", "x")
    assert (long.returncode, "File name too long" in long.stderr, "--numbered" in long.stderr) == (
        3,
        True,
        True,
    )
