"""Make the vectors: ``python -m tests.vectors.generate`` in the project's directory. They are made once and kept.

Run again it gives other bytes with the same faults: salts and content keys are random, every other secret is fixed.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.vectors import bases, faults_catalog, faults_documents, faults_packs, faults_sealed
from tests.vectors.forge import Forge

HERE = Path(__file__).parent


@dataclass
class Case:
    """One vector: a base repository, what is changed in it, and what a reader must say."""

    name: str
    expect: str
    why: str
    changes: dict[str, bytes | None] = field(default_factory=dict)
    base: str = "plain"
    snapshot: str = ""
    key: str = "right"
    trust: str = "right"


def main() -> None:
    """Write the repositories, the changed objects and the manifest."""
    made = bases.all_bases()
    for folder in ("repositories", "objects", "keys"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
    for name, base in made.items():
        for object_name, body in base.objects.items():
            write(HERE / "repositories" / name / object_name, body)
    keys = {"right": made["plain"].forge.file_key, "other": bytes(range(32)), "writer": bases.WRITER_KEY}
    for name, key in keys.items():
        write(HERE / "keys" / name, f"drctl key file, version 1\n{key.hex()}\n".encode())
    rows = [row_of(case, made) for case in cases(made)]
    names = [row["name"] for row in rows]
    if len(set(names)) != len(names):
        raise SystemExit(f"two vectors have one name: {sorted(n for n in names if names.count(n) > 1)}")
    manifest = {
        "trust": {"right": made["plain"].trust, "written": made["written"].trust, "other": bases.OTHER_TRUST, "none": None},
        "snapshots": {f"{n}/{s}": content for n, b in made.items() for s, content in b.snapshots.items()},
        "vectors": rows,
    }  # fmt: skip
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    (HERE / "manifest.json").write_text(text + "\n")


def cases(made: dict[str, bases.Base]) -> Iterator[Case]:
    """All vectors: every snapshot of every base must open; then one fault each."""
    for name, base in made.items():
        for number, snapshot in enumerate(base.snapshots, 1):
            trust = "written" if name == "written" else "right"
            yield Case(f"good-{name}-{number}", "ok", base.why, {}, name, snapshot, trust=trust)
    for module in (faults_documents, faults_sealed, faults_catalog, faults_packs):
        for fault in module.faults(made):
            base = made[fault.base]
            forge: Forge = copy.deepcopy(base.forge)
            fault.damage(forge)
            before, after = base.objects, forge.objects
            changes = {n: after.get(n) for n in sorted({*before, *after}) if before.get(n) != after.get(n)}
            snapshot = fault.snapshot or next(iter(base.snapshots))
            yield Case(
                fault.name, fault.expect, fault.why, changes, fault.base, snapshot, fault.key, fault.trust
            )


def row_of(case: Case, made: dict[str, bases.Base]) -> dict[str, Any]:
    """Store a case's objects; its row of the manifest."""
    changes = {}
    for number, (object_name, body) in enumerate(case.changes.items()):
        changes[object_name] = None if body is None else f"objects/{case.name}.{number}"
        if body is not None:
            write(HERE / "objects" / f"{case.name}.{number}", body)
    if case.expect != "ok" and not changes and (case.key, case.trust) == ("right", "right"):
        raise SystemExit(f"nothing is wrong with {case.name}")
    facts = {
        "name": case.name,
        "expect": case.expect,
        "why": case.why,
        "base": case.base,
        "snapshot": case.snapshot,
    }
    return {**facts, "key": case.key, "trust": case.trust, "changes": changes}


def write(path: Path, body: bytes) -> None:
    """Write a file and its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


if __name__ == "__main__":
    main()
