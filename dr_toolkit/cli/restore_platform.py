"""What ``drctl restore`` does without a component: the first screen, or everything of a recovery point."""

from __future__ import annotations

import sys
from datetime import datetime

import click

from dr_toolkit.cli.context import Context


def whole(
    context: Context, point: str | None, at: datetime | None, *, dry_run: bool, yes: bool, resume: bool
) -> None:
    """Without a component: everything of a point or a time, or else the first screen.

    Raises:
        click.UsageError: an option does not fit.
    """
    if point is not None and at is not None:
        raise click.UsageError("choose one of --point and --at")
    if point is not None or at is not None:
        everything(context, point, at, dry_run=dry_run, yes=yes, resume=resume)
        return
    if resume or dry_run or yes:
        raise click.UsageError("name a COMPONENT, or give --point or --at")
    screen(context)


def screen(context: Context) -> None:
    """Show what can be restored. A script that forgot the component gets code 2: nothing was restored."""
    from dr_toolkit.jobs import opening, overview
    from dr_toolkit.reporting import overview_text

    config = context.load_config()
    with opening.opened_repository(config) as repository:
        found = overview.run(config, repository)
    context.emit(overview_text.document(found), overview_text.text(found))
    if not context.as_json and not sys.stdout.isatty():
        sys.exit(2)


def everything(
    context: Context, point: str | None, at: datetime | None, *, dry_run: bool, yes: bool, resume: bool
) -> None:
    """Restore every component of a point, or as of a time."""
    from dr_toolkit.jobs import opening, platform_restore
    from dr_toolkit.reporting import platform_text

    config = context.load_config()

    def finished(name: str) -> frozenset[tuple[str, str]]:
        return platform_restore.journal_of(name).done() if resume else frozenset()

    with opening.opened_repository(config) as repository:
        planned = platform_restore.plan(config, repository, point=point, at=at, done=finished)
        if dry_run:
            text = platform_text.plan(planned) + "nothing was changed"
            context.emit({"plan": platform_text.plan_document(planned)}, text)
            return
        if not context.as_json:
            sys.stderr.write(platform_text.plan(planned))
        if platform_text.replaces(planned) and not yes:
            agree(planned.name, "the point's name" if point else "the time")
        journal = platform_restore.journal_of(planned.name)
        if not resume:
            journal.clear()
        outcome = platform_restore.run(config, repository, planned, context.progress(), journal)
    context.emit({"restored": platform_text.done_document(outcome)}, platform_text.done(outcome))
    if outcome.failed:
        sys.exit(outcome.failed[1].exit_code)
    if not outcome.done and not any(step.left == "done by an earlier run" for step in planned.steps):
        sys.exit(1)


def agree(name: str, what: str) -> None:
    """Something live is replaced: ask for its name to be typed.

    Raises:
        UsageError: nobody is there to ask.
    """
    from dr_toolkit import errors

    if not sys.stdin.isatty():
        raise errors.UsageError(
            "this replaces what is live, a database or objects, and nobody is there to confirm it",
            on=name,
            hint="look at the plan with --dry-run, then add --yes",
            unaffected="nothing was started",
        )
    typed = click.prompt(f'type {what} ("{name}") to go on', err=True, default="", show_default=False)
    if typed != name:
        raise click.Abort
