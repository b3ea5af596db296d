"""What a command does after its answer, and that must not hide it: files beside it, and a word for whoever throws it away."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from dr_toolkit import errors
from dr_toolkit.cli import boundary
from dr_toolkit.cli.context import Context, say


def write_files(context: Context, files: Iterable[tuple[Path | None, Callable[[], bytes]]], code: int) -> int:
    """Write the files that were asked for. Called after the answer was printed: an answer is never lost for a file.

    Args:
        context: the command's.
        files: where to (None: not asked for), and what makes the content.
        code: the exit code that the answer has.

    Returns:
        The exit code: the answer's own where it says no, else 1 where a file could not be written.
    """
    from dr_toolkit.reporting import files as written

    failed = False
    for path, content in files:
        if path is None:
            continue
        try:
            written.replace(path, content())
        except errors.OutputError as error:
            boundary.show(boundary.describe(error), context)
            failed = True
    return code or (errors.OutputError.exit_code if failed else 0)


def tell(context: Context, sentences: Iterable[str]) -> None:
    """Say what failed on standard error as well, a line each: cron's mail and a pipeline's log have no more than that.

    Only where a person's answer goes elsewhere: on a terminal it is read once, JSON has it, and with ``-v`` the log said it.
    """
    if context.as_json or context.log_format == "json" or context.verbosity > 0 or sys.stdout.isatty():
        return
    for sentence in sentences:
        say(f"drctl: {sentence}\n")
