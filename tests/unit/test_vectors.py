"""Every vector of docs/format.md, through both readers: drctl's own and the rescue script, which share no code."""

from __future__ import annotations

import base64
import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from blake3 import blake3

from dr_toolkit import errors
from dr_toolkit.repository import check, repository
from dr_toolkit.repository.file_store import FileStore
from tests.unit.repository.support import KeyFileRecipient, read_all

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
MANIFEST = json.loads((VECTORS / "manifest.json").read_text())
KINDS = {
    "ok", "version", "structure", "truncated", "trailing", "commitment", "authentication", "chunk-id", "page-id", "signature",
    "trust", "missing", "no-key",
}  # fmt: skip
CASES = [pytest.param(row, id=row["name"]) for row in MANIFEST["vectors"]]
BAD = [pytest.param(row, id=row["name"]) for row in MANIFEST["vectors"] if row["expect"] != "ok"]


@pytest.fixture(scope="session")
def rescue() -> ModuleType:
    """The rescue script as a module."""
    spec = importlib.util.spec_from_file_location("drctl_rescue", ROOT / "rescue" / "drctl_rescue.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lay_out(tmp_path: Path):
    """Make a vector's repository: its base with its changed objects."""

    def made(row: dict[str, Any]) -> Path:
        root = tmp_path / "repository"
        shutil.copytree(VECTORS / "repositories" / row["base"], root)
        for name, file in row["changes"].items():
            if file is None:
                (root / name).unlink()
            else:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes((VECTORS / file).read_bytes())
        return root

    return made


def digest(contents: dict[str, bytes]) -> list[Any]:
    """What the manifest says of a snapshot's content."""
    rows = [[p, len(contents[p]), hash_of(contents[p])] for p in sorted(contents)]
    return [len(rows), hash_of(json.dumps(rows).encode())]


def hash_of(content: bytes) -> str:
    """HASH in base64."""
    return base64.b64encode(blake3(content).digest()).decode()


def arguments(row: dict[str, Any], root: Path) -> list[str]:
    """The rescue script's options for a vector."""
    trust = MANIFEST["trust"][row["trust"]]
    key = ["--key-file", str(VECTORS / "keys" / row["key"])]
    return [str(root), row["snapshot"].rpartition("/")[2], *key, *(["--trust", trust] if trust else [])]


def run(rescue: ModuleType, capsys: pytest.CaptureFixture[str], command: str, *words: str) -> str:
    """The kind that the rescue script prints, or ``ok``."""
    code = rescue.main([command, *words])
    lines = [s for s in capsys.readouterr().err.splitlines() if not s.startswith("warning: ")]
    assert code == (3 if lines else 0)
    assert len(lines) < 2, lines
    return lines[0].partition(":")[0] if lines else "ok"


def drctl_kind(
    row: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, bytes]]:
    """What drctl says: the first fault met when it reads all entries and then checks all objects; or the entries."""
    faults: list[errors.DataError] = []
    monkeypatch.setattr(check.Findings, "fail", lambda _self, error, _name: faults.append(error))
    key = bytes.fromhex((VECTORS / "keys" / row["key"]).read_text().split()[-1])
    store = FileStore(str(root))
    try:
        recipient = KeyFileRecipient("the-key-file", key)
        opened = repository.open_repository(store, [recipient], MANIFEST["trust"][row["trust"]])
        _, component, snapshot_id = row["snapshot"].split("/")
        snapshot = opened.header(component, snapshot_id)
        contents = read_all(opened, snapshot)
        check.data(opened, snapshot)
        if faults:
            raise faults[0]
        return "ok", contents
    except errors.KeyRefused:
        return "no-key", {}
    except errors.ObjectMissing as error:
        return error.fault or "missing", {}
    except errors.DataError as error:
        return error.fault, {}
    finally:
        store.close()


def test_the_manifest_uses_only_the_kinds_of_the_text() -> None:
    """A kind that docs/format.md does not list is a mistake in a vector; each kind is met at least once."""
    assert {row["expect"] for row in MANIFEST["vectors"]} == KINDS
    listed = (ROOT / "docs" / "format.md").read_text().partition("Kinds of failure")[2].partition("## 2.")[0]
    assert all(f"`{kind}`" in listed for kind in KINDS - {"ok"})
    assert len({row["name"] for row in MANIFEST["vectors"]}) == len(MANIFEST["vectors"])


def test_every_file_is_used() -> None:
    """No object lies around that no vector names, and none is missing."""
    named = {file for row in MANIFEST["vectors"] for file in row["changes"].values() if file}
    assert named == {str(p.relative_to(VECTORS)) for p in (VECTORS / "objects").iterdir()}


@pytest.mark.parametrize("row", CASES)
def test_rescue(
    row: dict[str, Any], lay_out: Any, rescue: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rescue script opens the good vectors, and names the fault of each bad one."""
    assert run(rescue, capsys, "check", *arguments(row, lay_out(row))) == row["expect"], row["why"]


@pytest.mark.parametrize("row", CASES)
def test_drctl(row: dict[str, Any], lay_out: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package opens the good vectors with the right content, and names the fault of each bad one."""
    kind, contents = drctl_kind(row, lay_out(row), monkeypatch)
    assert kind == row["expect"], row["why"]
    if row["name"].startswith("good-"):
        assert digest(contents) == MANIFEST["snapshots"][f"{row['base']}/{row['snapshot']}"]


@pytest.mark.parametrize("row", [c for c in CASES if c.values[0]["name"].startswith("good-")])
def test_rescue_extracts(
    row: dict[str, Any], lay_out: Any, rescue: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The files that the rescue script writes are the entries."""
    expected = MANIFEST["snapshots"][f"{row['base']}/{row['snapshot']}"]
    result = run(rescue, capsys, "extract", *arguments(row, lay_out(row)), "--to", str(tmp_path / "out"))
    assert result == ("ok" if expected[0] else "missing")
    assert digest(files_in(tmp_path / "out")) == expected


@pytest.mark.parametrize("row", BAD)
def test_rescue_writes_nothing_wrong(
    row: dict[str, Any], lay_out: Any, rescue: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whatever is wrong, each file that extraction leaves is the whole content of its entry."""
    run(rescue, capsys, "extract", *arguments(row, lay_out(row)), "--to", str(tmp_path / "out"))
    good = good_contents(row["base"])
    for path, content in files_in(tmp_path / "out").items():
        assert path in good
        assert content in good[path], path


def good_contents(base: str) -> dict[str, set[bytes]]:
    """What the entries of a base may hold, in any of its snapshots."""
    found: dict[str, set[bytes]] = {}
    store = FileStore(str(VECTORS / "repositories" / base))
    key = bytes.fromhex((VECTORS / "keys" / "right").read_text().split()[-1])
    opened = repository.open_repository(store, [KeyFileRecipient("the-key-file", key)], None)
    for snapshot in opened.snapshots()[0]:
        for path, content in read_all(opened, snapshot).items():
            found.setdefault(path, set()).add(content)
    store.close()
    return found


def files_in(root: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return dict(_files(root))


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in root.rglob("*"):
        if path.is_file():
            yield path.relative_to(root).as_posix(), path.read_bytes()
