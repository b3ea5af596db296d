"""``drctl restore``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from dr_toolkit.cli import restore_platform, restore_tar
from dr_toolkit.cli.context import Context, say
from dr_toolkit.cli.options import common, duration, epilog, moment

if TYPE_CHECKING:
    from dr_toolkit.jobs.request import Request

_EPILOG = epilog(
    "drctl restore",
    "drctl restore --point before-1.48 --dry-run",
    "drctl restore console-db --dry-run",
    "drctl restore console-db",
    "drctl restore console-db --at 2026-11-23T08:00:00Z --yes",
    "drctl restore console-db --to conduktor_look",
    "drctl restore console-db --to file:/var/tmp/console.dump",
    "drctl restore --point before-1.48 --map namespace=conduktor-drill,host=drill-postgresql --yes",
    "drctl restore --undo --dry-run",
    "drctl restore console-db --cleanup",
    "drctl restore console-base --to /var/lib/postgresql/restored",
    "drctl restore console-base --to /var/lib/postgresql/standby --standby",
    "drctl restore console-base --tar - | tar -x -C /var/lib/postgresql/restored",
    "drctl restore releases --to ./releases",
    "drctl restore releases --diff",
    "drctl restore secrets",
    "drctl restore cortex --prefix blocks/ --to file:/var/tmp/blocks",
    codes=(0, 1, 2, 3, 5, 130, 143),
)


@click.command("restore", epilog=_EPILOG)
@click.argument("component", required=False)
@click.option("--point", metavar="NAME", help="Everything of this recovery point, in one order.")
@click.option("--snapshot", "snapshot_id", metavar="ID", help="This snapshot; else the newest good one.")
@click.option(
    "--at", metavar="TIME", callback=moment, help="The newest good snapshot not after this time (RFC 3339)."
)
@click.option(
    "--to",
    metavar="TARGET",
    help="A new database's name, a postgresql:// URL of one, or file:PATH for the exact archive. "
    "For a postgres-base: a new directory. For a bucket: s3://bucket/folder, a name of its places, or file:DIR. For helm: a new directory.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="SCHEMA.TABLE",
    help="Only this table (may be repeated); needs --to with a database that is there and lacks it.",
)
@click.option(
    "--no-swap", is_flag=True, help="Leave the restored database beside the live one, under its own name."
)
@click.option("--no-owner", is_flag=True, help="Leave out owners and privileges, where roles are missing.")
@click.option(
    "--jobs", type=click.IntRange(1, 16), default=2, show_default=True, help="Programs side by side."
)
@click.option(
    "--no-start",
    is_flag=True,
    help="For a postgres-base: only write the files; without pg_verifybackup, a start and a first query.",
)
@click.option(
    "--standby",
    is_flag=True,
    help="For a postgres-base: leave it as a standby (standby.signal) of the server that was backed up, or of the one that "
    "--recovery primary_conninfo=... names.",
)
@click.option(
    "--recovery",
    multiple=True,
    metavar="NAME=VALUE",
    help="For a postgres-base: leave it to recover further from your archive (recovery.signal) with this setting: restore_command, "
    "recovery_target_time, ... May be repeated.",
)
@click.option(
    "--tar",
    type=click.Choice(["-"]),
    help="For a postgres-base: the cluster as a plain tar on standard output, instead of --to.",
)
@click.option("--prefix", metavar="PREFIX", help="For a bucket: only keys that begin with this.")
@click.option("--exact", is_flag=True, help="For a bucket: delete objects that the snapshot does not have.")
@click.option(
    "--versions",
    "history",
    metavar="FILE",
    help="For a bucket with versions: all: write every version and delete marker anew, the oldest first; FILE lists old and new ids.",
)
@click.option("--diff", is_flag=True, help="For helm: compare the releases with the live ones instead.")
@click.option("--dry-run", is_flag=True, help="Print the plan; change nothing.")
@click.option(
    "--resume", is_flag=True, help="With --point or --at for everything: go on where a run stopped."
)
@click.option(
    "--undo",
    is_flag=True,
    help="Swap back to the databases from before the last restore, while they are there.",
)
@click.option(
    "--cleanup",
    is_flag=True,
    help="Drop databases that restores put aside; each only after its name is typed.",
)
@click.option(
    "--no-scale", is_flag=True, help="For everything: do not scale the configured applications to zero first."
)
@click.option(
    "--take-over", is_flag=True, help="For everything: take the lease of another run, which is surely dead."
)
@click.option(
    "--scale-timeout",
    metavar="DURATION",
    callback=duration,
    help="For everything: how long pods may take to end, and to get ready again (3m).",
)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="KEY=VALUE[,...]",
    help="For everything: into another place. namespace=NAME, host=NAME, port=NUMBER, COMPONENT.host=NAME, "
    "COMPONENT.port=NUMBER, COMPONENT.database=NAME, COMPONENT.url=s3://BUCKET.",
)
@click.option("--yes", is_flag=True, help="Do not ask; sessions in the live database may be ended.")
@common
@click.pass_obj
def command(context: Context, /, component: str | None, **given: Any) -> None:
    """Bring a component back, beside what is live; or everything; or, without arguments, show what can be restored.

    The snapshot goes into a new database, is compared with the source's digests, and only then gets the live name; the replaced
    database is kept. A postgres-base goes into a new directory, is checked by pg_verifybackup, started for a first query, and left
    stopped. Helm releases become files and the line that installs them; Secrets are compared with the live ones and never
    written. Needs a recipient with the role "read"; --undo and --cleanup need no repository.
    """
    context.configure_log()
    dry_run, yes = given["dry_run"], given["yes"]
    _refuse_empty(given)
    if given["undo"] or given["cleanup"]:
        if _any(given, (*_ONE, *_CHOICE, *_EVERYTHING)) or (given["undo"] and given["cleanup"]):
            raise click.UsageError("--undo and --cleanup go with COMPONENT, --dry-run and --yes only")
        from dr_toolkit.cli import restore_back

        back = restore_back.undo if given["undo"] else restore_back.cleanup
        back(context, component, dry_run=dry_run, yes=yes)
        return
    if given["snapshot_id"] is not None and given["at"] is not None:
        raise click.UsageError("choose one of --snapshot and --at")
    if given["tables"] and (given["to"] is None or given["to"].startswith("file:")):
        raise click.UsageError("--table needs --to with the name or URL of a database")
    if component is None:
        if _any(given, (*_ONE, "snapshot_id")):
            raise click.UsageError("name the COMPONENT that this option is for")
        wanted = (given[name] for name in ("resume", "no_scale", "take_over", "scale_timeout", "mapping"))
        options = restore_platform.Options(dry_run, yes, *wanted)
        restore_platform.whole(context, given["point"], given["at"], options)
        return
    if _any(given, _EVERYTHING):
        raise click.UsageError(
            "--point, --resume, --no-scale, --take-over, --scale-timeout and --map are for everything: leave the COMPONENT out"
        )
    request = _request(component, given)
    if given["tar"]:
        if _any(given, [name for name in _ONE if name != "tar"]):
            raise click.UsageError("--tar goes with COMPONENT, --snapshot, --at and --dry-run only")
        restore_tar.whole(context, request, dry_run=dry_run)
        return
    _one(context, request, dry_run=dry_run, yes=yes)


_EVERYTHING = ("point", "resume", "no_scale", "take_over", "scale_timeout", "mapping")
_CHOICE = ("snapshot_id", "at")
_ONE = (
    *("to", "tables", "no_swap", "no_owner", "no_start", "standby", "recovery", "tar"),
    *("prefix", "exact", "history", "diff"),
)
"""Options for a restore of everything; which snapshot; and for that of one component."""


_NAMED = {
    "point": "--point",
    "snapshot_id": "--snapshot",
    "to": "--to",
    "prefix": "--prefix",
    "history": "--versions",
}
_LISTED = {"tables": "--table", "recovery": "--recovery", "mapping": "--map"}


def _refuse_empty(given: Mapping[str, Any]) -> None:
    """An option whose value is empty was meant to have one (a variable that is not set), and never means that it was not given."""
    empty = [option for name, option in _NAMED.items() if given[name] == ""]
    empty += [option for name, option in _LISTED.items() if "" in given[name]]
    if empty:
        raise click.UsageError(f"{empty[0]} is empty: give a value, or leave the option out")
    if given["to"] in _NOTHING:
        raise click.UsageError(f"--to {given['to']} names nothing: say where behind it")


_NOTHING = ("file:", "s3://")


def _any(given: Mapping[str, Any], names: Iterable[str]) -> bool:
    return any(given[name] for name in names)


def _request(component: str, given: Mapping[str, Any]) -> Request:
    from dr_toolkit.jobs.request import Request

    same = ("to", "tables", "no_owner", "jobs", "exact", "history", "diff", "standby", "recovery")
    return Request(
        component,
        given["snapshot_id"],
        given["at"],
        swap=not given["no_swap"],
        start=not given["no_start"],
        prefix=given["prefix"] or "",
        **{name: given[name] for name in same},
    )


def _one(context: Context, request: Request, *, dry_run: bool, yes: bool) -> None:
    from dr_toolkit.jobs import kinds, opening
    from dr_toolkit.reporting import restores

    config = context.load_config()
    kind = opening.known_component(config, request.component).kind
    if (request.prefix or request.exact or request.history) and kind != "bucket":
        raise click.UsageError("--prefix, --exact and --versions are for a bucket")
    if (request.standby or request.recovery or not request.start) and kind != "postgres-base":
        raise click.UsageError("--standby, --recovery and --no-start are for a postgres-base")
    if (request.tables or request.no_owner or not request.swap) and kind != "postgres-dump":
        raise click.UsageError("--table, --no-owner and --no-swap are for a postgres-dump")
    if request.diff and kind != "helm":
        raise click.UsageError("--diff is for a component of kind helm")
    if request.history and (request.exact or (request.to or "").startswith("file:")):
        raise click.UsageError(
            "--versions goes into a bucket, and not with --exact: nothing is deleted for good"
        )
    job, view = kinds.restore_of(kind), restores.view_of(kind)
    with opening.opened_repository(config) as repository:
        prepared = job.prepare(config, repository, request)
        if dry_run:
            context.emit({"plan": view.plan_document(prepared)}, view.plan(prepared) + "nothing was changed")
            return
        if not context.as_json:
            say(view.plan(prepared))
        if view.replaces(prepared) and not yes:
            restore_platform.agree(request.component, "the component's name")
        progress = context.progress()
        try:
            done = job.run(config, repository, prepared, progress, end_sessions=True)
        finally:
            progress.close()
    context.emit({"restored": view.done_document(done)}, view.done(done))
    if restores.incomplete(view, done):
        sys.exit(1)
