"""``drctl restore NAME --tar -``: a cluster as a tar on standard output, and nothing else there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from dr_toolkit.cli.context import Context, say

if TYPE_CHECKING:
    from dr_toolkit.jobs.request import Request

_FULL = 256 << 10


def whole(context: Context, request: Request, *, dry_run: bool) -> None:
    """Write the tar, or print the plan.

    Raises:
        click.UsageError: standard output is a terminal, or is wanted for an answer too.
    """
    from dr_toolkit.jobs import base_archive, opening
    from dr_toolkit.reporting import base_text

    config = context.load_config()
    if not dry_run and context.as_json:
        raise click.UsageError("--tar - needs standard output for itself: leave --output json out")
    if not dry_run and os.isatty(1):
        raise click.UsageError("--tar - writes a tar, and standard output is a terminal: lead it elsewhere")
    with opening.opened_repository(config) as repository:
        prepared = base_archive.prepare(config, repository, request)
        if dry_run:
            text = base_text.archive_plan(prepared) + "nothing was changed"
            context.emit({"plan": base_text.archive_plan_document(prepared)}, text)
            return
        say(base_text.archive_plan(prepared))
        context.answered = True  # from here on standard output is the tar's
        done = base_archive.write(repository, prepared, _StandardOutput(), context.progress())
    context.close()
    say(base_text.archive_done(done) + "\n")


class _StandardOutput:
    """Bytes to standard output. Without Python's own buffer, which would try again at the end what could not be written."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes, /) -> None:
        self._waiting += data
        if len(self._waiting) >= _FULL:
            self.flush()

    def flush(self) -> None:
        from dr_toolkit import errors

        data, self._waiting = self._waiting, bytearray()
        try:
            with memoryview(data) as view:
                written = 0
                while written < len(view):
                    written += os.write(1, view[written:])
        except BrokenPipeError:
            raise
        except OSError as error:
            raise errors.TargetError(
                f"standard output takes no more: {error.strerror}",
                hint="the tar is not complete: do not use it",
                unaffected="the snapshot is as it was",
            ) from error
