"""One entry of a release or of Secrets, as text and as a document."""

from __future__ import annotations

from typing import Any

from dr_toolkit.cluster import manifest, releases, secrets_snapshot, yaml_text
from dr_toolkit.jobs.content import Content
from dr_toolkit.reporting.text import table
from dr_toolkit.words import counted


def document(item: Content) -> dict[str, Any]:
    """For scripts."""
    return {
        "snapshot": item.snapshot,
        "path": item.path,
        "kind": item.kind,
        "revealed": item.revealed,
        "hidden": item.hidden,
        "content": item.document,
    }


def text(item: Content) -> str:
    """For people: YAML, with a line about what is hidden."""
    if item.kind == secrets_snapshot.VALUES and item.revealed:
        return yaml_text.dump(item.document)  # nothing else, so that kubectl apply takes it
    hidden = "" if item.revealed else f"# {item.hidden} values are hidden; --reveal shows them\n"
    if item.kind == secrets_snapshot.METADATA:
        return _secrets(item) + hidden
    if item.kind != releases.RELEASE:
        return hidden + yaml_text.dump(item.document)
    shown = dict(item.document)
    text_of_manifest = str(shown.pop("manifest"))
    hooks = [str(one) for one in shown.pop("hooks")]
    shown.pop("computed_values")
    named = [f"#   {one.kind} {one.name}" for one in manifest.names(text_of_manifest)]
    return "\n".join(
        [
            hidden
            + yaml_text.dump(shown)
            + f"# {counted(len(hooks), 'hook')}; {counted(len(named), 'object')} in the manifest:",
            *named,
            "# manifest, hooks and computed values: --output json, or drctl restore COMPONENT --to DIR",
            "",
        ]
    )


def _secrets(item: Content) -> str:
    rows = [["SECRET", "TYPE", "KEYS (BYTES)", "FROM"]]
    for one in item.document["secrets"]:
        keys = ", ".join(f"{name} ({key['length']})" for name, key in one["keys"].items())
        origin = one["origin"]
        rows.append([one["name"], one["type"], keys, f"{origin['by']} {origin['name']}".strip()])
    return table(rows)
