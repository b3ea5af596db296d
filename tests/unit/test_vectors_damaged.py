"""Random damage to the good repositories of the vectors: both readers accept, or refuse, the same; neither gives out anything wrong."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit import test_vectors
from tests.unit.test_vectors import MANIFEST, VECTORS, digest, drctl_kind

rescue = test_vectors.rescue
ROUNDS = 12
"""Of each base. 900 of such rounds were run by hand, with ten kinds of damage, and found no disagreement."""


def damaged(body: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """One of: a bit, a character, the end cut off, something after it, a piece twice, another object."""
    place = chance.randrange(len(body))
    changed = bytearray(body)
    changed[place] ^= 1 << chance.randrange(8)
    character = bytearray(body)
    character[place] = chance.choice(b'09azAZ"{}[],: \n\x00\xff+-/=')
    twice = body[:place] + body[max(0, place - 20) :]
    return chance.choice(
        [changed, changed, character, body[:place], body + b"\n", twice, chance.choice(others)]
    )


@pytest.mark.parametrize("base", ["plain", "rotated", "written"])
def test_both_readers_agree_about_damage(
    base: str,
    rescue: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Whatever is damaged: either both name a fault, or both read exactly what was stored."""
    chance, key = random.Random(f"damage of {base}"), VECTORS / "keys" / "right"
    names = [name.partition("/")[2] for name in MANIFEST["snapshots"] if name.startswith(f"{base}/")]
    seen = set()
    for number in range(ROUNDS):
        root = tmp_path / str(number)
        shutil.copytree(VECTORS / "repositories" / base, root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        victim = chance.choice(files)
        victim.write_bytes(
            damaged(victim.read_bytes(), [f.read_bytes() for f in files if f != victim], chance)
        )
        name = chance.choice(names)
        row = {"key": "right", "trust": "none", "snapshot": name}
        ours, contents = drctl_kind(row, root, monkeypatch)
        rescue.main(["check", str(root), name.rpartition("/")[2], "--key-file", str(key)])
        said = [s for s in capsys.readouterr().err.splitlines() if not s.startswith("warning: ")]
        where = f"{victim.relative_to(root)}, {name}: {ours}, {said}"
        assert (ours == "ok") == (not said), where
        assert ours != "ok" or digest(contents) == MANIFEST["snapshots"][f"{base}/{name}"], where
        seen.add(ours == "ok")
    assert False in seen
