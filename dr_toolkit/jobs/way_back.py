"""After a restore: swap back to the databases from before (``--undo``), or drop them at last (``--cleanup``). Needs no repository."""

from __future__ import annotations

from dataclasses import dataclass, field

from dr_toolkit import errors, log
from dr_toolkit.config import Config, PostgresDumpConfig
from dr_toolkit.jobs import opening
from dr_toolkit.log import Progress
from dr_toolkit.postgres import kept
from dr_toolkit.postgres.kept import Kept, Past
from dr_toolkit.postgres.swap import SwapReport

_log = log.get("jobs.way_back")


@dataclass(frozen=True, slots=True)
class Step:
    """One component's part in going back.

    Attributes:
        component: its name.
        past: its database, and what was put aside of it; None where it has none.
        back: the database to go back to; None when it is left as it is.
        left: why it is left; empty when it is not.
        hint: what a person does instead.
    """

    component: str
    past: Past | None
    back: Kept | None
    left: str = ""
    hint: str | None = None


@dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        steps: what was planned.
        done: by component.
        failed: the component at which it stopped, and why.
    """

    steps: tuple[Step, ...]
    done: dict[str, SwapReport] = field(default_factory=dict)
    failed: tuple[str, errors.DrctlError] | None = None


@dataclass(frozen=True, slots=True)
class Aside:
    """A kept database, for ``--cleanup``.

    Attributes:
        component: whose.
        kept: itself.
        live_there: whether the database that it was is there again.
    """

    component: str
    kept: Kept
    live_there: bool


def plan_undo(config: Config, name: str | None) -> tuple[Step, ...]:
    """What ``--undo`` would do: of one component, or of all. Changes nothing.

    Raises:
        NothingToDo: nothing can be undone; the message says why.
    """
    steps = [
        _step(config, component) for component in opening.chosen_components(config, (name,) if name else ())
    ]
    if not any(step.back for step in steps):
        reasons = "; ".join(f"{step.component}: {step.left}" for step in steps)
        raise errors.NothingToDo(
            f"there is no restore to undo: {reasons}",
            hint="restore an earlier snapshot instead; see: drctl restore",
            unaffected="nothing was changed",
        )
    return tuple(steps)


def undo(config: Config, steps: tuple[Step, ...], progress: Progress) -> Outcome:
    """Swap back, one database after the other, in the order of the steps. Running it again goes on where it stopped."""
    outcome = Outcome(steps)
    for step in steps:
        if step.back is None:
            continue
        progress.note(f'giving "{step.back.live}" back to "{step.back.name}"')
        try:
            settings = opening.restore_settings(_dump(config, step.component), config)
            outcome.done[step.component] = kept.undo(settings, step.back.name, terminate=True)
        except errors.DrctlError as error:
            _log.error("undo failed", component=step.component, code=error.code, reason=error.message)
            outcome.failed = (step.component, error)
            return outcome
    return outcome


def replaced_since(config: Config, name: str, snapshot: str, moment: str) -> bool:
    """Whether the database of a component was replaced with this very snapshot at that time or later, and is so still."""
    component = config.components.get(name)
    if not isinstance(component, PostgresDumpConfig):
        return False
    past = kept.look(opening.restore_settings(component, config))
    last = past.kept[0] if past.kept else None
    return (
        last is not None
        and past.there
        and (last.why, last.snapshot) == ("replaced", snapshot)
        and last.moment >= moment
    )


def plan_cleanup(config: Config, name: str | None) -> list[Aside]:
    """Every kept database of one component, or of all, oldest first. Changes nothing.

    Raises:
        NothingToDo: there is none.
    """
    found = []
    for component, configured in opening.chosen_components(config, (name,) if name else ()).items():
        if isinstance(configured, PostgresDumpConfig):
            past = kept.look(opening.restore_settings(configured, config))
            found += [Aside(component, one, past.there) for one in reversed(past.kept)]
    if not found:
        raise errors.NothingToDo(
            "no restore left a database to drop",
            hint="drop others by hand; drctl drops only what it put aside",
        )
    return found


def drop(config: Config, aside: Aside) -> None:
    """Drop one of them.

    Raises:
        TargetError: it is not what it was when it was listed, is in use, or may be the last copy.
    """
    kept.drop(opening.restore_settings(_dump(config, aside.component), config), aside.kept.name)


def _step(config: Config, name: str) -> Step:
    component = config.components[name]
    if not isinstance(component, PostgresDumpConfig):
        hint = (
            "put its objects of before back: drctl restore " + name + " --at TIME"
            if component.kind == "bucket"
            else None
        )
        return Step(name, None, None, f"a restore of a {component.kind} keeps nothing beside it", hint)
    past = kept.look(opening.restore_settings(component, config))
    back, why = kept.choose(past)
    return Step(name, past, back, why)


def _dump(config: Config, name: str) -> PostgresDumpConfig:
    return opening.expect(config.components[name], PostgresDumpConfig)
