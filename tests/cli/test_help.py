"""Help is fast and complete; options, errors, signals and exit codes are the same for every command."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from dr_toolkit import errors, log
from dr_toolkit.cli import boundary, main
from dr_toolkit.cli.context import Context
from dr_toolkit.config.example import example

DRCTL = [sys.executable, "-c", "from dr_toolkit.cli.main import entry_point; entry_point()"]
HEAVY = (
    "pydantic",
    "yaml",
    "rich",
    "structlog",
    "numpy",
    "boto3",
    "kubernetes",
    "botocore",
    "obstore",
    "psycopg",
    "cryptography",
    "hvac",
)
READY = [
    name for name in main.COMMANDS if (Path(main.__file__).parent / f"{main.module_of(name)}.py").exists()
]


def drctl(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DRCTL, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_imports_click_and_nothing_heavier():
    """The start matters: people wait for --help, and shells for completion."""
    code = f"""
        import sys
        from dr_toolkit.cli.main import run
        code = run(["--help"])
        print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)
    """
    assert python(code).communicate(timeout=60)[1].strip() == "[] 0"


@pytest.mark.parametrize("name", READY)
def test_help_of_a_command_loads_no_library(name):
    """Asking what a command does needs nothing that the command needs."""
    code = f"""
        import sys
        from dr_toolkit.cli.main import run
        code = run([{name!r}, "--help"])
        print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)
    """
    assert python(code).communicate(timeout=60)[1].strip() == "[] 0"


def commands() -> list[list[str]]:
    """Every command with its name in parts, those in groups too."""
    context = click.Context(main.drctl)
    found = []
    for name in READY:
        command = main.drctl.get_command(context, name)
        if isinstance(command, click.Group):
            found += [[name, inner] for inner in command.commands]
        found.append([name])
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_help_of_each_command_has_examples_and_exit_codes(words, capsys):
    """Help shows how the command is used and what its exit codes mean, and says the global options."""
    assert main.run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "Examples:\n    ",
        "Exit codes:\n    0   done",
        "--output [text|json]",
        "-c, --config",
        "--no-color",
    ):
        assert part in shown


@pytest.mark.parametrize("words", [w for w in commands() if len(w) == 1], ids=" ".join)
def test_short_help_in_the_table_is_the_commands_own(words):
    """The table that --help prints without importing says what the command itself says."""
    command = main.drctl.get_command(click.Context(main.drctl), words[0])
    assert command.help.startswith(main.COMMANDS[words[0]].rstrip("."))


def test_version(capsys):
    """The version is that of the package."""
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == "drctl, version 0.1.0\n"


def test_no_command_is_wrong_usage(capsys):
    """Nothing asked for is not success; help goes to standard error."""
    assert main.run([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Usage: drctl" in captured.err


def test_an_option_without_its_value_points_to_its_own_commands_help(capsys):
    """Also where click's parser itself forgot whose option it is."""
    assert main.run(["restore", "--point"]) == 2
    assert "hint: see: drctl restore --help" in capsys.readouterr().err
    assert main.run(["completion"]) == 2
    assert "missing argument '[bash|zsh|fish]'. Choose from: bash, zsh, fish\n" in capsys.readouterr().err


def test_an_argument_that_is_no_text_is_refused(capsys):
    """A byte that the locale has no character for would reach no server and no message as it was meant."""
    assert main.run(["restore", "console-db", "--to", os.fsdecode(b"\xff")]) == 2
    assert 'the argument "\\xff" is not text in this locale' in capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "json"])
def test_characters_that_standard_output_lacks_are_written_as_escapes(monkeypatch, form):
    """With an old locale a name in another script ends no command; JSON means the same then."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    Context(output=form).emit({"table": "é 😀"}, "é 😀")
    written = raw.getvalue().decode("ascii")
    if form == "json":
        assert json.loads(written) == {"table": "é 😀"}
    else:
        assert written == "\\u00e9 \\ud83d\\ude00\n"


def test_unknown_command_names_the_nearest(capsys):
    """A slip of the finger is met with the word that was meant."""
    assert main.run(["bakup"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        'drctl: no such command "bakup"; did you mean "backup"?',
        "  unaffected: nothing was started",
        "  hint: see: drctl --help",
    ]


@pytest.mark.parametrize("before", [True, False])
def test_usage_errors_are_json_where_json_is_asked_for(before, capsys):
    """One JSON document on standard output, nothing on standard error, wherever the option stands."""
    words = ["config", "check", "--fo"]
    option = ["--output", "json"]
    assert main.run(option + words if before else words + option) == 2
    captured = capsys.readouterr()
    error = json.loads(captured.out)["error"]
    assert set(error) == {"code", "message", "on", "hint", "retry", "unaffected"}
    assert (error["code"], error["hint"]) == ("usage", "see: drctl config check --help")
    assert captured.err == ""


def heard(arguments: list[str], monkeypatch) -> Context:
    """The context that a command gets."""
    seen: list[Context] = []

    def load(self: Context):
        seen.append(self)
        raise errors.NothingToDo("stop here")

    monkeypatch.setattr(Context, "load_config", load)
    assert main.run(arguments) == 1
    return seen[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "f", "--output", "json", "--log-format", "json", "-vv", "--no-color", "config", "check"],
        ["config", "-c", "f", "--output", "json", "--log-format", "json", "-vv", "--no-color", "check"],
        ["config", "check", "-c", "f", "--output", "json", "--log-format", "json", "-vv", "--no-color"],
        [
            "-v",
            "--output",
            "text",
            "-c",
            "g",
            "config",
            "check",
            "-c",
            "f",
            "--output=json",
            "--log-format=json",
            "-v",
            "--no-color",
        ],
    ],
)
def test_global_options_stand_anywhere(arguments, monkeypatch, capsys):
    """Before or behind the command's name; behind wins, and -v adds up."""
    monkeypatch.setenv("DRCTL_CONFIG", "from-environment")
    context = heard(arguments, monkeypatch)
    assert (context.config_path, context.output, context.log_format) == (Path("f"), "json", "json")
    assert (context.verbosity, context.color) == (2, False)


def test_no_color_in_the_environment(monkeypatch):
    """NO_COLOR is honoured when it is not empty."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert heard(["config", "check"], monkeypatch).color is False
    monkeypatch.setenv("NO_COLOR", "")
    assert heard(["config", "check"], monkeypatch).color is True


def failing(error: BaseException, context: Context) -> int:
    def run() -> None:
        raise error

    return boundary.guarded(run, context)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NothingToDo("x"), 1),
        (errors.UsageError("x"), 2),
        (errors.ConfigError("x"), 2),
        (errors.Damaged("x"), 3),
        (errors.StoreUnreachable("x"), 5),
        (errors.Interrupted(2), 130),
        (errors.Interrupted(15), 143),
        (KeyboardInterrupt(), 130),
        (click.UsageError("X."), 2),
        (click.Abort(), 1),
        (click.exceptions.Exit(3), 3),
        (SystemExit(4), 4),
        (SystemExit(None), 0),
        (SystemExit("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_codes(error, code, capsys):
    """Each failure has its code, in one place."""
    assert failing(error, Context()) == code


def test_what_a_command_returns_is_its_exit_code():
    """A command may end with a code of its own; nothing returned is success."""
    assert boundary.guarded(lambda: 3, Context()) == 3
    assert boundary.guarded(lambda: None, Context()) == 0


def test_error_as_text(capsys):
    """What failed, on what, what is unaffected, what to do."""
    error = errors.StoreUnreachable("no answer", on="s3://b", hint="try again", unaffected="the source")
    failing(error, Context())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "drctl: no answer\n  on: s3://b\n  unaffected: the source\n  hint: try again\n"


def test_error_as_json(capsys):
    """The documented document, and nothing beside it."""
    failing(errors.StoreUnreachable("no answer", on="s3://b"), Context(output="json"))
    captured = capsys.readouterr()
    expected = {
        "code": "store-unreachable",
        "message": "no answer",
        "on": "s3://b",
        "hint": None,
        "retry": True,
        "unaffected": None,
    }
    assert json.loads(captured.out) == {"error": expected}
    assert captured.err == ""


def test_one_document_only(capsys):
    """A failure after the answer does not print a second document."""
    context = Context(output="json")

    def run() -> None:
        context.emit({"snapshots": []}, "")
        raise errors.NothingToDo("late")

    assert boundary.guarded(run, context) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"snapshots": []}
    assert captured.err == "drctl: late\n"


def test_error_in_a_json_log(capsys):
    """Where the log is JSON, an error is a line of it."""
    try:
        failing(errors.NothingToDo("nothing", hint="do"), Context(log_format="json"))
    finally:
        log.silence()
    event = json.loads(capsys.readouterr().err)
    assert (event["event"], event["level"], event["code"], event["hint"]) == (
        "nothing",
        "error",
        "nothing-to-do",
        "do",
    )


def test_fault_of_ours_shows_its_type_only(capsys):
    """A bug says where to look, and repeats no value; -vv shows the place."""
    secret = "CANARY-8f2"
    assert failing(ValueError(secret), Context()) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("drctl: internal error: ValueError\n  hint: ")
    assert secret not in shown.err + shown.out
    log.mask(secret + secret)
    failing(ValueError(secret + secret), Context(verbosity=2))
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "test_help.py" in shown
    assert secret not in shown


def test_broken_pipe_to_a_program_is_not_taken_for_our_readers(capfd):
    """Only our own reader may end us in silence."""
    assert failing(BrokenPipeError(), Context()) == 1
    assert "internal error: BrokenPipeError" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["config", "example"], ["config", "check"], ["completion", "bash"]])
@pytest.mark.parametrize("form", ["text", "json"])
def test_standard_output_on_a_full_disk(tmp_path, arguments, form):
    """The lost answer is told on standard error in words; it is no fault of drctl, and what was done is done."""
    (tmp_path / "drctl.yaml").write_text(example())
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*DRCTL, *arguments, "--output", form],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
            timeout=60,
        )
    assert ended.returncode == 1
    assert "the answer cannot be written to standard output: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["restore", "-h"], ["--version"]])
def test_help_on_a_full_disk(monkeypatch, capsys, arguments):
    """Said in words like for any other answer."""
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main.run(arguments) == 1
        monkeypatch.undo()
        assert "No space left on device" in capsys.readouterr().err
        with contextlib.suppress(OSError):
            full.close()


def test_error_on_a_full_disk(tmp_path):
    """An error whose JSON document finds no room is told in words on standard error, with its own code."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*DRCTL, "nonsense", "--output", "json"],
            stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.startswith('drctl: no such command "nonsense"')
    assert "Traceback" not in ended.stderr


def test_closed_standard_streams(tmp_path):
    """Whoever closes them hears nothing; the exit code is the same, and no file gets their numbers."""
    (tmp_path / "drctl.yaml").write_text(example())
    for arguments, code in (("config check", 0), ("config nonsense", 2), ("nonsense", 2)):
        closing = f'"$@" {arguments} <&- >&- 2>&-'
        ended = subprocess.run(["sh", "-c", closing, "sh", *DRCTL], cwd=tmp_path, check=False, timeout=60)
        assert ended.returncode == code, arguments


def test_reader_that_leaves_is_no_reason_to_complain():
    """``drctl … | head -0`` says nothing on standard error."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*DRCTL, "config", "schema"],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


WAITING = """
    import signal, sys, time
    from dr_toolkit import errors
    from dr_toolkit.cli import boundary
    from dr_toolkit.cli.context import Context

    def run():
        try:
            print("ready", flush=True)
            end = time.monotonic() + 60
            while time.monotonic() < end:  # one long sleep could begin just after the signal came, and outlast it
                time.sleep(0.05)
        finally:
            print("cleaning", flush=True)
            if "slow" in sys.argv:
                end = time.monotonic() + 20
                while time.monotonic() < end:
                    time.sleep(0.1)

    if "nohup" not in sys.argv:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may have it ignored
    sys.exit(boundary.guarded(run, Context()))
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_with_cleaning_up(number, code):
    """Interrupted or terminated, cleanly, with the code that says which."""
    process = python(WAITING)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out, process.returncode) == ("cleaning\n", code)
    assert err == f"drctl: interrupted by {number.name}\n  unaffected: nothing half-done was made visible\n"


def test_the_third_signal_ends_at_once():
    """A second signal does not disturb the cleaning up; a third does not wait for it."""
    process = python(WAITING, "slow")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "drctl: cleaning up; once more to end without\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_a_lost_terminal_ends_with_cleaning_up():
    """The terminal is gone, so nothing can be told there; everything is cleaned up all the same, and the code says why."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WAITING)], stdout=subprocess.PIPE, stderr=theirs, text=True
    )
    os.close(theirs)
    assert process.stdout.readline() == "ready\n"
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert (process.communicate(timeout=30)[0], process.returncode) == ("cleaning\n", 129)


def test_nohup_is_obeyed():
    """Whoever starts drctl so that it outlives its terminal gets that."""
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", textwrap.dedent(WAITING), "nohup"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert (process.communicate(timeout=30)[0], process.returncode) == ("cleaning\n", 143)


IMPORTING = """
    import os, signal, sys

    class AtClick:
        def find_spec(self, name, path=None, target=None):
            if name == "click":
                os.kill(os.getpid(), signal.SIGINT)

    sys.meta_path.insert(0, AtClick())
    from dr_toolkit.cli import start
    start.entry_point()
"""


def test_ctrl_c_while_drctl_is_loading_is_silent():
    """Nothing is under way yet: no traceback of whatever was being imported, and the shell sees 130."""
    process = python(IMPORTING)
    assert (process.communicate(timeout=30), process.returncode) == (("", ""), -signal.SIGINT)


PROGRESS = """
    import time
    from dr_toolkit.cli.context import Context

    context = Context()
    progress = context.progress()
    progress.start(10_000_000, "console-db: reading")
    for _ in range(10):
        progress.advance(1_000_000, 3)
        time.sleep(0.05)
    progress.note("half way")
    context.emit({}, "the answer")
"""


def test_progress_is_shown_on_a_terminal_only():
    """Bytes, rate and objects move on a terminal's standard error; the answer is alone on standard output."""
    ours, theirs = pty.openpty()
    try:
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "140"}
        code = textwrap.dedent(PROGRESS)
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environment,
            timeout=60,
            check=True,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:
                break
            shown += data
    finally:
        os.close(ours)
    assert done.stdout == b"the answer\n"
    for part in (b"console-db: reading", b"MiB", b"MiB/s", b"objects", b"half way"):
        assert part in shown
    process = python(PROGRESS)
    assert process.communicate(timeout=60) == ("the answer\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell, capsys):
    """A script for each shell, printed without starting that shell."""
    assert main.run(["completion", shell]) == 0
    assert "_DRCTL_COMPLETE" in capsys.readouterr().out


def test_completion_answers_without_importing_commands():
    """What a shell asks for is the command's name and nothing slower."""
    environment = os.environ | {
        "_DRCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": "drctl res",
        "COMP_CWORD": "1",
    }
    assert drctl(env=environment).stdout.splitlines() == ["plain,restore", "plain,resume"]
    environment |= {"COMP_WORDS": "drctl config ", "COMP_CWORD": "2"}
    assert drctl(env=environment).stdout.splitlines() == ["plain,check", "plain,example", "plain,schema"]


IN_BASH = """\
eval "$(drctl completion bash)"
COMP_WORDS=(drctl verify --res) COMP_CWORD=2
_drctl_completion drctl --res verify 2>/dev/null
echo "${COMPREPLY[@]}"
complete -p drctl
"""


def test_completion_in_a_real_bash(tmp_path):
    """The line that the help gives is taken by bash, and completes an option of a command."""
    script = tmp_path / "drctl"
    script.write_text(f"#!{sys.executable}\nfrom dr_toolkit.cli.start import entry_point\nentry_point()\n")
    script.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", IN_BASH],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["--restore", "complete -o nosort -F _drctl_completion drctl"]
