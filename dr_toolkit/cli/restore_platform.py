"""What ``drctl restore`` does without a component: the first screen, or everything of a recovery point."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from dr_toolkit.cli.context import Context, say

if TYPE_CHECKING:
    from dr_toolkit.config import Config
    from dr_toolkit.jobs.platform_restore import Plan


@dataclass(frozen=True, slots=True)
class Options:
    """How everything is restored.

    Attributes:
        dry_run: only print the plan.
        yes: do not ask.
        resume: leave out what an earlier run finished.
        no_scale: leave the applications alone.
        take_over: take the lease of another run.
        scale_timeout: how long pods may take to end, and to get ready.
        mapping: what is elsewhere than the configuration says.
    """

    dry_run: bool = False
    yes: bool = False
    resume: bool = False
    no_scale: bool = False
    take_over: bool = False
    scale_timeout: timedelta | None = None
    mapping: tuple[str, ...] = ()


def whole(context: Context, point: str | None, at: datetime | None, options: Options) -> None:
    """Without a component: everything of a point or a time, or else the first screen.

    Raises:
        click.UsageError: an option does not fit.
    """
    if point is not None and at is not None:
        raise click.UsageError("choose one of --point and --at")
    if point is not None or at is not None:
        everything(context, point, at, options)
        return
    if options != Options():
        raise click.UsageError("name a COMPONENT, or give --point or --at")
    screen(context)


def screen(context: Context) -> None:
    """Show what can be restored. A script that forgot the component gets code 2: nothing was restored. Nothing at all is code 1."""
    from dr_toolkit.jobs import opening, overview
    from dr_toolkit.reporting import overview_text

    config = context.load_config()
    with opening.opened_repository(config) as repository:
        found = overview.run(config, repository)
    context.emit(overview_text.document(found), overview_text.text(found))
    if not any(choice.snapshot for choice in found.choices):
        sys.exit(1)
    if not context.as_json and not sys.stdout.isatty():
        sys.exit(2)


def everything(context: Context, point: str | None, at: datetime | None, options: Options) -> None:
    """Restore every component of a point, or as of a time."""
    from dr_toolkit.jobs import mapping, opening, platform_restore
    from dr_toolkit.jobs.journal import journal_of
    from dr_toolkit.reporting import platform_text

    config = mapping.apply(context.load_config(), options.mapping)
    with ExitStack() as stack:
        repository = stack.enter_context(opening.opened_repository(config))
        cluster, rest = _applications(config, stack, options)
        planned = platform_restore.plan(
            config,
            repository,
            point=point,
            at=at,
            resume=options.resume,
            rest=rest,
            namespace=mapping.namespace_of(options.mapping),
        )
        if options.dry_run:
            text = platform_text.plan(planned) + "nothing was changed"
            context.emit({"plan": platform_text.plan_document(planned)}, text)
            return
        if not context.as_json:
            say(platform_text.plan(planned))
        if platform_text.replaces(planned) and not options.yes:
            agree(planned.name, "the point's name" if point else "the time")
        session = _session(stack, cluster, planned, options)
        journal = journal_of(planned.name)
        if not options.resume:
            journal.clear()
        outcome = platform_restore.run(config, repository, planned, context.progress(), journal, session)
    context.emit({"restored": platform_text.done_document(outcome)}, platform_text.done(outcome))
    if outcome.failed:
        sys.exit(outcome.failed[1].exit_code)
    for _name, error in outcome.unreported:
        sys.exit(error.exit_code)
    nothing = not outcome.done and not any(s.left == "done by an earlier run" for s in planned.steps)
    if nothing or platform_text.incomplete(outcome) or not all(well for well, _text in outcome.awake):
        sys.exit(1)


def _applications(config: Config, stack: ExitStack, options: Options) -> tuple[Any, tuple[Any, ...]]:
    """The cluster, and the applications that are brought to rest there; nothing where none is configured."""
    from dr_toolkit import errors

    if options.no_scale or not any(found.writes for found in config.platform.values()):
        return None, ()
    from dr_toolkit.jobs import quiet

    try:
        cluster = stack.enter_context(quiet.connected(config))
        return cluster, quiet.plan(cluster, quiet.writers(config))
    except errors.DrctlError as error:
        error.hint = "; ".join(filter(None, [error.hint, "or leave the applications alone: --no-scale"]))
        raise


def _session(stack: ExitStack, cluster: Any, planned: Plan, options: Options) -> Any:
    """The leases of the applications' namespaces, for as long as the block lasts; None without applications."""
    if not planned.rest:
        return None
    from dr_toolkit.jobs import quiet

    seconds = options.scale_timeout.total_seconds() if options.scale_timeout else quiet.WAIT_S
    return stack.enter_context(
        quiet.session(
            cluster,
            planned.rest,
            f"restore of {planned.name}",
            take_over=options.take_over,
            wait_seconds=seconds,
        )
    )


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
