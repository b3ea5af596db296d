"""``drctl restore --undo`` and ``drctl restore --cleanup``."""

from __future__ import annotations

import sys

import click

from dr_toolkit.cli.context import Context, say
from dr_toolkit.cli.restore_platform import agree


def undo(context: Context, component: str | None, *, dry_run: bool, yes: bool) -> None:
    """Swap back to the databases from before the last restore."""
    from dr_toolkit.jobs import way_back
    from dr_toolkit.reporting import way_back_text

    config = context.load_config()
    steps = way_back.plan_undo(config, component)
    if dry_run:
        text = way_back_text.undo_plan(steps) + "nothing was changed"
        context.emit({"plan": way_back_text.undo_plan_document(steps)}, text)
        return
    if not context.as_json:
        say(way_back_text.undo_plan(steps))
    if not yes:
        agree(component or "undo", "the component's name" if component else "the word")
    outcome = way_back.undo(config, steps, context.progress())
    context.emit({"undone": way_back_text.undone_document(outcome)}, way_back_text.undone(outcome))
    if outcome.failed:
        sys.exit(outcome.failed[1].exit_code)


def cleanup(context: Context, component: str | None, *, dry_run: bool, yes: bool) -> None:
    """Drop databases that restores put aside, each after its name was typed."""
    from dr_toolkit import errors
    from dr_toolkit.jobs import way_back
    from dr_toolkit.reporting import way_back_text

    config = context.load_config()
    found = way_back.plan_cleanup(config, component)
    document = [way_back_text.aside_document(one) for one in found]
    if dry_run:
        context.emit({"kept": document}, way_back_text.asides(found) + "nothing was changed")
        return
    if not yes and not sys.stdin.isatty():
        raise errors.UsageError(
            "this drops databases for good, and nobody is there to confirm it",
            hint="look at the list with --dry-run, then add --yes",
            unaffected="nothing was dropped",
        )
    if not context.as_json:
        say(way_back_text.asides(found))
    dropped: list[str] = []
    left: list[str] = []
    failed: list[tuple[str, errors.DrctlError]] = []
    for one in found:
        name = one.kept.name
        if not yes and not _typed(name):
            left.append(name)
            continue
        try:
            way_back.drop(config, one)
            dropped.append(name)
        except errors.DrctlError as error:
            failed.append((name, error))
    result = {"dropped": dropped, "left": left, "failed": [_failure(*row) for row in failed]}
    context.emit({"cleanup": result}, way_back_text.dropped(dropped, left, failed))
    if failed:
        sys.exit(failed[0][1].exit_code)


def _typed(name: str) -> bool:
    answer: str = click.prompt(
        f'type the name ("{name}") to drop it, or nothing to leave it',
        err=True,
        default="",
        show_default=False,
    )
    return answer == name


def _failure(name: str, error: Exception) -> dict[str, object]:
    from dr_toolkit import errors
    from dr_toolkit.reporting import documents

    assert isinstance(error, errors.DrctlError)  # noqa: S101  # for the type checker
    return {"database": name, **documents.failure(error)}
