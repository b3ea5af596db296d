"""The one place that turns errors into text, JSON and exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from dr_toolkit import errors, log
from dr_toolkit.cli.context import Context


def guarded(run: Callable[[], object], context: Context) -> int:
    """Run a command and return its exit code. Nothing that a user can cause leaves here as a traceback."""
    try:
        with signals():
            run()
    except errors.Interrupted as stop:
        sys.stderr.write("drctl: interrupted; nothing half-done was made visible\n")
        return stop.exit_code
    except errors.DrctlError as error:
        show(error, context)
        return error.exit_code
    except (click.exceptions.Exit, click.ClickException, click.Abort) as stop:
        return _of_click(stop)
    except BrokenPipeError:
        # Whoever read our answer has gone; keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:  # noqa: BLE001  # the command line's boundary: a fault of ours must not print secrets
        return _internal(error, context)
    return 0


def _of_click(stop: click.exceptions.Exit | click.ClickException | click.Abort) -> int:
    """What click says itself: help, wrong usage, a question that was not answered with yes."""
    if isinstance(stop, click.exceptions.Exit):
        return stop.exit_code
    if isinstance(stop, click.ClickException):
        stop.show()
        return stop.exit_code
    sys.stderr.write("drctl: not confirmed; nothing was changed\n")
    return 1


@contextmanager
def signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise ``Interrupted`` in the main thread, so that everything is cleaned up."""

    def stop(number: int, _frame: object) -> None:
        raise errors.Interrupted(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def document(error: errors.DrctlError) -> dict[str, Any]:
    """``{"error": …}``."""
    fields: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "on": error.on,
        "hint": error.hint,
        "retry": error.retry,
        "unaffected": error.unaffected,
    }
    if isinstance(error, errors.ConfigError) and error.problems:
        fields["problems"] = list(error.problems)
    return {"error": fields}


def text(error: errors.DrctlError) -> str:
    """What failed, on what, what is unaffected, what to do."""
    lines = [f"drctl: {error.message}"]
    if isinstance(error, errors.ConfigError):
        lines += [f"  {problem}" for problem in error.problems if problem not in error.message]
    if error.on and error.on not in error.message:
        lines.append(f"  on: {error.on}")
    if error.unaffected:
        lines.append(f"  unaffected: {error.unaffected}")
    if error.hint:
        lines.append(f"  next: {error.hint}")
    return "\n".join(lines) + "\n"


def show(error: errors.DrctlError, context: Context) -> None:
    """Print an error: JSON on standard output where JSON was asked for, else text on standard error."""
    if context.as_json:
        sys.stdout.write(
            json.dumps(log.masked_document(document(error)), ensure_ascii=False, indent=2) + "\n"
        )
        sys.stdout.flush()
    sys.stderr.write(log.masked(text(error)))
    if context.verbosity > 1:
        sys.stderr.write(log.masked(_trace(error)))


def _internal(error: Exception, context: Context) -> int:
    name = type(error).__name__
    if context.as_json:
        fields = {
            "code": "internal",
            "message": f"internal error: {name}",
            "on": None,
            "hint": "run again with -vv",
            "retry": False,
        }
        sys.stdout.write(json.dumps({"error": fields}, indent=2) + "\n")
    sys.stderr.write(
        f"drctl: internal error: {name}\n  next: run again with -vv for the place, and report it\n"
    )
    if context.verbosity > 1:
        sys.stderr.write(log.masked(_trace(error)))
    return 1


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))
