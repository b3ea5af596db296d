"""What the gate looks at before it takes anything: the repository, its room, and what each kind knows of its source."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping

from dr_toolkit import errors
from dr_toolkit.config import ComponentConfig, Config
from dr_toolkit.jobs import kinds
from dr_toolkit.jobs.gate import Check, Question, amount
from dr_toolkit.jobs.inspect import Inventory
from dr_toolkit.words import counted

_SHOWN = 5


def look(
    config: Config, chosen: Mapping[str, ComponentConfig], stock: Inventory, question: Question
) -> Iterator[Check]:
    """Everything but backups and proofs; changes nothing."""
    yield stored(stock)
    yield room(config, chosen)
    found = [
        check for name, component in chosen.items() for check in of_kind(config, name, component, question)
    ]
    # A component that reads Helm's storage itself knows more of the release than its labels do.
    known = {check.name for check in found if check.name == "release"}
    found += [check for check in of_platform(config, question) if check.name not in known]
    yield from found
    if question.release is not None:
        asked = ("release", "versions") if question.to_version else ("release",)
        answered = {check.name for check in found}
        yield from (not_looked(name, question.release) for name in asked if name not in answered)


def stored(stock: Inventory) -> Check:
    """Whether anything is damaged or missing. Pure."""
    wrong = [error.message for error in stock.damaged] + [finding.text for finding in stock.missing]
    if not wrong:
        return Check(
            "repository", None, "ok", f"{counted(len(stock.snapshots), 'snapshot')}, none damaged or missing"
        )
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Check("repository", None, "failed", "; ".join(wrong[:_SHOWN]) + more, "see: drctl snapshots")


def room(config: Config, chosen: Mapping[str, ComponentConfig]) -> Check:
    """Whether the repository has room for all content anew; a snapshot mostly needs far less."""
    directory = config.repository.directory
    if directory is None:
        return Check(
            "space", None, "ok", "the repository is in a bucket, which is as large as what is put into it"
        )
    try:
        sizes = [
            kinds.backup_of(component.kind).look(config, component).bytes for component in chosen.values()
        ]
    except errors.DrctlError as error:
        return Check(
            "space", None, "unknown", f"the sources' sizes are not known: {error.message}", error.hint
        )
    need = sum(size or 0 for size in sizes)
    try:
        free = shutil.disk_usage(directory).free
    except OSError as error:
        return Check("space", None, "unknown", f"the repository's disk cannot be asked: {error.strerror}")
    text = f"the repository has {amount(free)} free and all content anew would need at most {amount(need)}"
    return Check("space", None, "ok" if free >= need else "failed", text)


def of_kind(config: Config, name: str, component: ComponentConfig, question: Question) -> list[Check]:
    """What the component's kind looks at; what it cannot look at is unknown, never fine."""
    looker = kinds.gate_of(component.kind)
    if looker is None:
        return []
    try:
        return looker.facts(config, name, component, question)
    except errors.DrctlError as error:
        names = getattr(looker, "NAMES", ("migrations", "transactions", "replication", "space"))
        return [Check(check, name, "unknown", error.message, error.hint) for check in names]


def of_platform(config: Config, question: Question) -> list[Check]:
    """Release, versions and health of the configured applications; nothing where none is."""
    if not config.platform:
        return []
    from dr_toolkit.jobs import platform_gate  # noqa: PLC0415  # slow to import, and not needed without a cluster

    try:
        return platform_gate.facts(config, question)
    except errors.DrctlError as error:
        return [Check("health", None, "unknown", error.message, error.hint)]


def not_looked(name: str, release: str) -> Check:
    """A check about the release that no component can make."""
    return Check(
        name,
        None,
        "unknown",
        f'no application under "platform" is "{release}", so nothing is known of it',
        f"look yourself (helm status {release}), then --accept {name}",
    )
