"""What ``drctl discover`` found, as a commented ``drctl.yaml`` and as a JSON document."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from dr_toolkit.jobs.proposal import Discovery, Field, Proposal, Scalar

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./:-]*[A-Za-z0-9_/]")
_WORDS_OF_YAML = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})
_WIDTH = 110
_COMMENT_COLUMN = 46

_HEAD = """\
# drctl.yaml, proposed by "drctl discover" from what runs in the cluster. Read it before you use it.
# No secret is written here: "env:NAME" refers to an environment variable of drctl.
# Check it with: drctl config check          Then: drctl doctor
"""

_REPOSITORY = """\
version: 1

# CHOOSE: where the copies go. Not a bucket of the platform itself, and not a server that would be lost with it.
repository:
  url: s3://drctl-backups/conduktor           # or a directory: file:///var/lib/drctl
  # trust: "ed25519:…"                        # printed by drctl init: pins the key that vouches for all others
  s3:
    # endpoint: https://minio.example:9000    # without it: Amazon's, for the region
    region: us-east-1
    access_key_id: env:DR_KEY
    secret_access_key: env:DR_SECRET

# CHOOSE: who can unwrap the repository's keys. The role "write" backs up and lists; the role "read" also restores and verifies.
# Two recipients of different types are better than one.
keys:
  nightly:
    type: key-file
    role: write
    path: /etc/drctl/write.key                # drctl keys generate-file /etc/drctl/write.key
  safe:
    type: key-file
    role: read
    path: /etc/drctl/read.key                 # keep a copy far from here; only where restore and verify run
  # vault-write:
  #   type: vault
  #   role: write
  #   address: https://vault.example:8200
  #   transit_key: drctl-write
  #   auth: {method: token, token: "env:VAULT_TOKEN"}
"""


def text(discovery: Discovery) -> str:
    """A complete configuration that ``drctl config check`` accepts, with what was found and what was not as comments."""
    lines = [
        *_HEAD.splitlines(),
        "#",
        *_overview(discovery),
        "",
        *_REPOSITORY.splitlines(),
        "",
        "components:",
    ]
    for component in discovery.components:
        lines += _component(component)
    lines += ["", *_credentials(discovery)]
    return "\n".join(lines).rstrip("\n") + "\n"


def document(discovery: Discovery) -> dict[str, Any]:
    """The same as data; ``components`` as ``drctl.yaml`` would have them, ``config`` is the text."""
    return {
        "platform": [
            {
                "role": m.role,
                "namespace": m.namespace,
                "name": m.name,
                "release": m.release,
                "image": m.image,
                "live": m.live,
            }
            for m in discovery.members
        ],
        "components": {component.name: component.plain() for component in discovery.components},
        "credentials": [
            {"variable": c.variable, "source": c.source, "secret": c.secret_ref}
            for c in discovery.credentials
        ],
        "missing": list(discovery.all_missing),
        "not_protected": list(discovery.not_protected),
        "gateway_topics": list(discovery.topics),
        "config": text(discovery),
    }


def _overview(discovery: Discovery) -> Iterator[str]:
    yield "# Found:"
    for m in discovery.members:
        yield f"#   {m.role:<8} {_shown(m.namespace)}/{_shown(m.name)}, release {_shown(m.release)}, image {_shown(m.image)}{'' if m.live else ' (does not run)'}"
    if discovery.all_missing:
        yield "#"
        yield "# NOT FOUND, or not readable:"
        for sentence in discovery.all_missing:
            yield from _comment(sentence, "#   - ", "#     ")
    if discovery.not_protected:
        yield "#"
        yield "# NOT PROTECTED by drctl:"
        for sentence in discovery.not_protected:
            yield from _comment(sentence, "#   - ", "#     ")


def _component(component: Proposal) -> Iterator[str]:
    yield ""
    yield from _comment(" ".join(component.about), "  # ", "  # ")
    yield f"  {component.name}:"
    for item in component.fields:
        yield from _field(item, 4)


def _field(item: Field, depth: int) -> Iterator[str]:
    indent = " " * depth
    if not isinstance(item.value, tuple):
        yield _commented(f"{indent}{item.name}: {_scalar(item.value)}", item.comment)
        return
    below = [value for value in item.value if isinstance(value, Field)]
    if (
        below
        and not any(field.comment for field in below)
        and len(below) > 1
        and depth > _DEPTH_OF_FIELDS - 1
    ):
        inside = ", ".join(f"{field.name}: {_flow(field)}" for field in below)
        line = f"{indent}{item.name}: {{{inside}}}"
        if len(line) <= _WIDTH and not any(isinstance(f.value, tuple) for f in below):
            yield _commented(line, item.comment)
            return
    if below:
        yield _commented(f"{indent}{item.name}:", item.comment)
        for field in below:
            yield from _field(field, depth + 2)
        return
    scalars: Sequence[Scalar] = [value for value in item.value if not isinstance(value, Field)]
    yield _commented(f"{indent}{item.name}: [{', '.join(map(_scalar, scalars))}]", item.comment)


_DEPTH_OF_FIELDS = 4


def _flow(field: Field) -> str:
    return _scalar(field.value) if not isinstance(field.value, tuple) else ""


def _scalar(value: Scalar) -> str:
    """A scalar in YAML: quoted whenever it could be read as something else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS_OF_YAML:
        return value
    escaped = "".join(_escaped(character) for character in value)
    return f'"{escaped}"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    return f"\\U{ord(character):08x}"


def _commented(line: str, comment: str) -> str:
    return f"{line:<{_COMMENT_COLUMN - 2}}  # {_shown(comment)}" if comment else line


def _comment(sentence: str, first: str, next_: str) -> list[str]:
    return textwrap.wrap(
        _shown(sentence),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=next_,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shown(value: str) -> str:
    """Text from the cluster, harmless in a comment: no line break, no control character."""
    return "".join(character if character.isprintable() else "?" for character in value)


def _credentials(discovery: Discovery) -> Iterator[str]:
    if not discovery.credentials:
        return
    yield "# Variables for drctl, and where their values lie. In a CronJob, from a copy of the Secret in drctl's namespace:"
    for c in discovery.credentials:
        yield f"#   {c.variable:<32} {_shown(c.source)}"
    yield "#   - name: NAME"
    yield "#     valueFrom: {secretKeyRef: {name: SECRET, key: KEY}}"
