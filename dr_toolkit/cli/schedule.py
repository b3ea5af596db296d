"""``drctl schedule``."""

from __future__ import annotations

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command(
    "schedule",
    epilog=epilog(
        "drctl schedule",
        "drctl schedule --dry-run",
        codes=(0, 1, 2, 130, 143),
    ),
)
@click.option("--dry-run", is_flag=True, help="Only say when what is due next.")
@common
@click.pass_obj
def command(context: Context, *, dry_run: bool) -> None:
    """Run the configured schedules in this process, until it is told to end.

    Each component is backed up when its "schedule" is due, all are verified by restore when "schedule.verify" is, and no two runs of one
    task overlap. Times that were missed are made up for once. SIGTERM ends what runs, cleanly (code 143). In Kubernetes take CronJobs.
    """
    context.configure_log()
    from dr_toolkit import clock
    from dr_toolkit.jobs import schedule

    tasks = schedule.tasks(context.load_config())
    if dry_run:
        rows = [(task, [t.isoformat() for t in schedule.next_times(task, clock.now())]) for task in tasks]
        document = [
            {
                "task": t.name,
                "component": t.component,
                "schedule": t.expression,
                "time_zone": t.zone,
                "next": times,
            }
            for t, times in rows
        ]
        lines = [f"{t.name}: {t.expression} ({t.zone}), next {', '.join(times)}" for t, times in rows]
        context.emit({"tasks": document}, "\n".join([*lines, "nothing was started"]))
        return
    schedule.run(tasks, schedule.Runner(schedule.command_of(context.config_path)))
