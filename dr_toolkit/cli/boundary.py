"""The one place that turns errors and signals into text, JSON and exit codes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import click

from dr_toolkit import errors, log
from dr_toolkit.cli.context import Context, say

_OURS = 1
_USAGE = 2
_LAST_SIGNAL = 3
"""The signal at which a person no longer wants to wait for the end of the cleaning up."""


def guarded(run: Callable[[], object], context: Context) -> int:
    """Run a command and give its exit code: what it returned, or what its error means. Never a traceback, unless asked."""
    try:
        with signals():
            try:
                result = run()
            finally:
                context.close()
    except BaseException as error:  # noqa: BLE001 - everything ends here, so that nothing prints secrets
        return _exit_code(error, context)
    return result if isinstance(result, int) else 0


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """The first SIGINT, SIGTERM or SIGHUP raises ``Interrupted`` in the main thread, so that everything is cleaned up.

    The second says that this takes its time; the third ends the process at once (its programs die with it). A lost terminal (SIGHUP) is
    waited for by nobody, and ``nohup`` is obeyed.
    """
    count = 0

    def stop(number: int, _frame: object) -> None:
        nonlocal count
        count += 1
        if count == 1:
            raise errors.Interrupted(number)
        if count >= _LAST_SIGNAL:
            os._exit(128 + number)
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, b"drctl: cleaning up; once more to end without\n")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_code(error: BaseException, context: Context) -> int:
    if isinstance(error, (SystemExit, click.exceptions.Exit)):
        return _of_exit(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return _USAGE
    if isinstance(error, BrokenPipeError) and _reader_is_gone():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains about it at its end
        return _OURS
    if isinstance(error, KeyboardInterrupt):
        error = errors.Interrupted(signal.SIGINT)
    with contextlib.suppress(OSError):  # nobody can be told; the code remains
        show(describe(error), context)
        if not isinstance(error, (errors.Interrupted, click.ClickException, click.Abort)):
            _details(error, context)
    return (
        error.exit_code if isinstance(error, (errors.DrctlError, errors.Interrupted)) else _plain_code(error)
    )


def _of_exit(error: SystemExit | click.exceptions.Exit) -> int:
    code = error.exit_code if isinstance(error, click.exceptions.Exit) else error.code
    return code if isinstance(code, int) else 0 if code is None else _OURS


def _plain_code(error: BaseException) -> int:
    return _USAGE if isinstance(error, (click.UsageError, click.FileError)) else _OURS


def describe(error: BaseException) -> dict[str, Any]:
    """An error as the fields of its JSON document. An error of another tree is a fault of ours: its text is not shown."""
    if isinstance(error, errors.DrctlError):
        hint = error.hint or error.remedy
        fields = _fields(error.code, error.message, error.on, hint, error.unaffected, retry=error.retry)
        if isinstance(error, errors.ConfigError) and error.problems:
            fields["problems"] = list(error.problems)
        return fields
    if isinstance(error, errors.Interrupted):
        name = signal.Signals(error.exit_code - 128).name
        safe = "nothing half-done was made visible"
        return _fields(error.code, f"interrupted by {name}", None, None, safe, retry=True)
    if isinstance(error, click.ClickException):
        words = " ".join(error.format_message().split()).rstrip(".")
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "drctl"
        message = words[:1].lower() + words[1:]
        return _fields("usage", message, None, f"see: {where} --help", "nothing was started")
    if isinstance(error, click.Abort):
        hint = "answer the question, or give --yes where the command has it"
        return _fields("failed", "not confirmed", None, hint, "nothing was changed")
    hint = "a fault of drctl: run again with -vv for the place, and report it"
    return _fields("internal", f"internal error: {type(error).__name__}", None, hint, None)


def _fields(
    code: str, message: str, on: str | None, hint: str | None, unaffected: str | None, *, retry: bool = False
) -> dict[str, Any]:
    return {
        "code": code,
        "message": message,
        "on": on,
        "hint": hint,
        "retry": retry,
        "unaffected": unaffected,
    }


def text(fields: dict[str, Any]) -> str:
    """What failed; on what, and what is unaffected; what to do."""
    lines = [f"drctl: {fields['message']}"]
    lines += [f"  {problem}" for problem in fields.get("problems", ())]
    lines += [f"  {name}: {fields[name]}" for name in ("on", "unaffected", "hint") if fields[name]]
    return "\n".join(lines)


def show(fields: dict[str, Any], context: Context) -> None:
    """Print an error: the JSON document where one is expected and none was given, else a log event or text on standard error."""
    fields = log.masked_document(fields)
    if context.as_json and not context.answered and fields["code"] != errors.OutputError.code:
        with contextlib.suppress(errors.OutputError):
            context.emit({"error": fields}, "")
            return
    if context.log_format == "json":
        context.configure_log()
        log.get("cli").error(fields["message"], **{k: v for k, v in fields.items() if k != "message"})
    else:
        say(text(fields) + "\n")


def _details(error: BaseException, context: Context) -> None:
    """What a person asked to see with -v (what a program said) and -vv (where it happened; never values of variables)."""
    if context.verbosity > 0 and isinstance(error, errors.ProgramError) and error.stderr:
        say(error.stderr.rstrip() + "\n")
    if context.verbosity > 1:
        say("".join(traceback.format_exception(error)))


def _reader_is_gone() -> bool:
    """Whether it is our own standard output that nobody reads any more (``drctl … | head``)."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
