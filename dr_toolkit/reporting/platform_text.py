"""Plan and outcome of a restore of the whole platform."""

from __future__ import annotations

from typing import Any

from dr_toolkit.jobs.platform_restore import Outcome, Plan
from dr_toolkit.reporting import documents, restores
from dr_toolkit.reporting.text import duration
from dr_toolkit.words import counted


def replaces(plan: Plan) -> bool:
    """Whether a step replaces something live."""
    return any(restores.view_of(s.kind).replaces(s.prepared) for s in plan.steps if not s.left)


def plan(item: Plan) -> str:
    """Every step in its order, with what each replaces and loses."""
    known = [s.seconds for s in item.steps if not s.left]
    measured = [seconds for seconds in known if seconds is not None]
    about = (
        f"at least {duration(sum(measured))}"
        if len(measured) < len(known)
        else f"about {duration(sum(measured))}"
    )
    lines = [
        f"restore everything of {item.name}: {counted(len(item.steps), 'component')}, taken within {duration(item.spread)} of each other",
        f"by their last proven restores it takes {about if measured else 'an unknown time: nothing was ever proven'}",
        *_rest(item),
        "",
    ]
    parts = ["\n".join([*lines, ""])]
    for number, step in enumerate(item.steps, 1):
        if step.left:
            hint = f"; {step.hint}" if step.hint else ""
            parts.append(f"{number}. LEFT OUT {step.component} ({step.snapshot.id}): {step.left}{hint}\n")
        else:
            parts.append(f"{number}. {restores.view_of(step.kind).plan(step.prepared)}")
    if (
        sum(
            restores.view_of(s.kind).replaces(s.prepared) and s.kind == "postgres-dump"
            for s in item.steps
            if not s.left
        )
        > 1
    ):
        parts.append("no database is swapped before all of them are restored aside and compared\n")
    if item.rest:
        parts.append("then the applications get their replicas back, and are asked about their health\n")
    return "".join(parts)


def _rest(item: Plan) -> list[str]:
    if not item.rest:
        return ["scale down first what writes to these; what it writes while this runs is lost"]
    lines = ["first these are scaled to zero; what they are meant to have is recorded on them:"]
    for rest in item.rest:
        found = ", ".join(f"{one.title} ({counted(one.goal, 'replica')})" for one in rest.workloads)
        lines.append(f"  {rest.name} in namespace {rest.application.namespace}: {found}")
    return lines


def plan_document(item: Plan) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "name": item.name,
        "spread_seconds": item.spread,
        "scale_down": [
            {
                "application": rest.name,
                "namespace": rest.application.namespace,
                "workloads": [
                    {"workload": one.title, "replicas": one.replicas, "intended": one.goal}
                    for one in rest.workloads
                ],
            }
            for rest in item.rest
        ],
        "steps": [
            {
                "component": s.component,
                "snapshot": documents.snapshot(s.snapshot),
                "left_out": s.left or None,
                "hint": s.hint,
                "rto_measured_seconds": s.seconds,
                "plan": None if s.left else restores.view_of(s.kind).plan_document(s.prepared),
            }
            for s in item.steps
        ],
    }


def done(item: Outcome) -> str:
    """What was done of each component, where it stopped, and how to go on."""
    parts = []
    for step in item.plan.steps:
        if step.component in item.done:
            parts.append(restores.view_of(step.kind).done(item.done[step.component]).rstrip("\n") + "\n")
        elif step.left:
            hint = f"; {step.hint}" if step.hint else ""
            parts.append(f"LEFT OUT: {step.component}: {step.left}{hint}\n")
        elif item.failed and item.failed[0] == step.component:
            error = item.failed[1]
            parts.append(f"FAILED: {step.component}: {error.message}\n")
            parts += [
                f"  {label}: {value}\n"
                for label, value in (("unaffected", error.unaffected), ("next", error.hint))
                if value
            ]
        elif step.component in {name for name, _error in item.unreported}:
            continue
        elif step.component in item.dropped:
            parts.append(
                f"NOT SWAPPED: {step.component}: it was restored aside, and dropped again because not all came back\n"
            )
        else:
            parts.append(f"NOT BEGUN: {step.component}\n")
    for name, error in item.unreported:
        hint = f"; next: {error.hint}" if error.hint else ""
        parts.append(f"NOT COMPARED: {name}: {error.message}{hint}\n")
    parts += [f"{'well' if well else 'NOT WELL'}: {text}\n" for well, text in item.awake]
    if item.resting:
        parts.append(
            f"STILL AT ZERO: {', '.join(item.resting)}; --resume scales them up at its end, or at once: drctl resume\n"
        )
    if item.failed:
        parts.append(
            "to go on after that: the same command with --resume; to go back instead: drctl restore --undo\n"
        )
    return "".join(parts)


def incomplete(item: Outcome) -> bool:
    """Whether a part of a component was left out although there is something to show of it."""
    known = {s.component: s.kind for s in item.plan.steps}
    return any(restores.incomplete(restores.view_of(known[name]), done) for name, done in item.done.items())


def done_document(item: Outcome) -> dict[str, Any]:
    """The same for scripts."""
    kinds = {s.component: s.kind for s in item.plan.steps}
    failed = documents.failure(item.failed[1], item.failed[0]) if item.failed else None
    begun = {
        *item.done,
        *item.dropped,
        *(name for name, _error in item.unreported),
        *([item.failed[0]] if item.failed else []),
    }
    return {
        "name": item.plan.name,
        "components": {
            name: restores.view_of(kinds[name]).done_document(result) for name, result in item.done.items()
        },
        "left_out": {s.component: s.left for s in item.plan.steps if s.left},
        "not_begun": [s.component for s in item.plan.steps if not s.left and s.component not in begun],
        "dropped_again": list(item.dropped),
        "not_compared": [documents.failure(error, name) for name, error in item.unreported],
        "failed": failed,
        "still_at_zero": list(item.resting),
        "health": [{"well": well, "text": text} for well, text in item.awake],
    }
