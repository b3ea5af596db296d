"""The gate for programs: what it promises about streams, failures, users and death."""

from __future__ import annotations

import io
import os
import pwd
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import cast

import pytest

from dr_toolkit import clock, log
from dr_toolkit.errors import Interrupted, ProgramError
from dr_toolkit.process import Pipe, find_program, run, streams

WAIT_SECONDS = 10.0


def gone(pid: int) -> bool:
    """Whether the process ended within the bound (a zombie has ended)."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_run_gives_output_and_status():
    """What a program wrote and how it ended comes back; check=False makes a failure a result."""
    done = run(["sh", "-c", "cat; echo oops >&2; exit 3"], input=b"in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"in", "oops\n")


def test_run_failure_names_program_status_and_last_line():
    """A failure says which program, how it ended, and its last words."""
    with pytest.raises(ProgramError) as caught:
        run(["sh", "-c", "echo first >&2; echo 'no such thing' >&2; exit 4"])
    assert caught.value.message == '"sh" ended with exit status 4: no such thing'
    assert "first" in caught.value.stderr


def test_run_failure_names_the_signal():
    """A program that was killed is told apart from one that failed."""
    with pytest.raises(ProgramError, match=r"was ended by signal 9 \(SIGKILL\)"):
        run(["sh", "-c", "kill -9 $$"])


def test_program_not_found():
    """A missing program is an error before anything runs."""
    with pytest.raises(ProgramError, match='"no-such-program-here" not found'):
        run(["no-such-program-here", "--version"])


def test_program_that_cannot_be_executed(tmp_path):
    """A file that the kernel refuses to execute is a failure with the reason."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF not really")
    broken.chmod(0o755)
    with pytest.raises(ProgramError, match=r"cannot start .*broken"):
        run([str(broken)])


def test_missing_working_directory(tmp_path):
    """A start that fails in the child is an error here, and the starter goes on serving."""
    with pytest.raises(ProgramError, match="could not be started"):
        run(["true"], cwd=str(tmp_path / "none"))
    assert run(["true"]).returncode == 0


def test_timeout_ends_the_program():
    """Out of time means ended, not forgotten."""
    before = time.monotonic()
    with pytest.raises(ProgramError, match=r"did not end within 0\.3 s"):
        run(["sleep", "60"], timeout=0.3)
    assert time.monotonic() - before < WAIT_SECONDS


def test_given_environment_is_the_whole_environment():
    """An environment that is given replaces ours entirely, the loader's variables included."""
    env = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": "/nowhere/at/all", "A": "b c"}
    lines = run(["env"], env=env).stdout.decode().splitlines()
    assert sorted(lines) == sorted(f"{k}={v}" for k, v in env.items())


def test_program_starts_with_default_signals():
    """The program can be ended by any signal that Python, or a shell's ``&``, made us ignore."""
    ours = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ours}
    try:
        status = run(["cat", "/proc/self/status"]).stdout.decode()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
    mask = int(ignored.split()[1], 16)  # bit n - 1 stands for signal n; others may come from our own parent
    assert [number for number in ours if mask >> (number - 1) & 1] == []


def test_program_has_no_terminal_and_no_input():
    """A program can ask nobody for a password: its own session, empty input."""
    done = run(["sh", "-c", "cat; ps -o sid= -p $$; echo $$"])
    sid, pid = done.stdout.split()
    assert sid == pid


def test_pipe_streams_more_than_any_buffer():
    """A stream larger than pipe and buffers arrives whole, and finish agrees."""
    total = 0
    with Pipe(["head", "-c", "30000000", "/dev/zero"]) as pipe:
        while data := pipe.stdout.read(1 << 20):
            total += len(data)
        pipe.finish()
    assert total == 30_000_000


def test_pipe_writes_and_reads():
    """Input and output can both be ours."""
    with Pipe(["tr", "a-z", "A-Z"], stdin=True) as pipe:
        pipe.stdin.write(b"hello")
        pipe.stdin.close()
        assert pipe.stdout.read() == b"HELLO"
        pipe.finish()


def test_pipe_is_enlarged():
    """The kernel's pipe holds 1 MiB, so that a program can write on while we are busy."""
    with Pipe(["sh", "-c", "head -c 900000 /dev/zero; echo done >&2; sleep 60"]) as pipe:
        deadline = time.monotonic() + WAIT_SECONDS
        while not pipe.stderr_tail() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert pipe.stderr_tail() == "done\n"


@pytest.mark.parametrize("there", [True, False])
def test_bulk_output_is_the_same_with_or_without_stdbuf(tmp_path, there):
    """Coreutils' stdbuf only saves calls: where it is not installed the program runs as it is, under its own name."""
    for name in ("seq", *(["stdbuf"] if there else [])):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    with Pipe(["seq", "300000"], env={"PATH": str(tmp_path)}, bulk=True) as pipe:
        assert pipe.stdout is not None
        assert pipe.stdout.read() == b"".join(b"%d\n" % number for number in range(1, 300_001))
        pipe.finish()
    with Pipe(["seq", "x"], env={"PATH": str(tmp_path)}, bulk=True) as pipe:
        assert pipe.stdout is not None
        assert pipe.stdout.read() == b""
        with pytest.raises(ProgramError, match=r'^"seq" ended with exit status 1'):
            pipe.finish()


def test_finish_after_much_output_still_fails():
    """A program that fails after writing much is a failure, with the end of its standard error only."""
    script = "head -c 5000000 /dev/zero; for i in $(seq 1 5000); do echo line $i >&2; done; exit 1"
    with Pipe(["sh", "-c", script]) as pipe:
        while pipe.stdout.read(1 << 20):
            pass
        with pytest.raises(ProgramError, match="ended with exit status 1: line 5000") as caught:
            pipe.finish()
    assert len(caught.value.stderr) <= 16 << 10


def test_leaving_the_block_stops_the_program():
    """A program is not left running when its reader gives up."""
    with pytest.raises(KeyError), Pipe(["yes"]) as pipe:
        pid = pipe.pid
        raise KeyError
    assert gone(pid)


def test_stop_kills_what_ignores_the_request(monkeypatch):
    """A program that ignores SIGTERM is killed with its children after the grace time; stopping twice is harmless."""
    monkeypatch.setattr("dr_toolkit.process._GRACE_SECONDS", 0.3)
    pipe = Pipe(["sh", "-c", "trap '' TERM; sleep 60 & echo $!; wait; wait; sleep 60"])
    child = int(pipe.stdout.readline())
    pipe.stop()
    pipe.stop()
    assert gone(pipe.pid)
    assert gone(child)


def test_end_signal_is_what_stop_sends():
    """A server that wants another signal for a clean end gets that one."""
    with Pipe(
        ["sh", "-c", "trap 'exit 7' INT; echo up; while :; do sleep 0.1; done"], end_signal=signal.SIGINT
    ) as p:
        assert p.stdout.readline() == b"up\n"
        p.stop()
        assert p.wait() == 7


def test_secrets_are_masked_in_what_a_program_said():
    """A secret that a program repeats on standard error does not reach the error."""
    log.mask("correct-horse-battery")
    with pytest.raises(ProgramError) as caught:
        run(["sh", "-c", "echo bad password correct-horse-battery >&2; exit 1"])
    assert "correct-horse" not in caught.value.message + caught.value.stderr


def test_start_is_logged_without_environment(capsys):
    """At debug each start is a line with argument list and process id, and never the environment."""
    log.configure("json", 2, sys.stderr)
    try:
        run(["true", "argument"], env={"PATH": os.environ["PATH"], "PGPASSWORD": "planted-canary"})
    finally:
        log.silence()
    line = capsys.readouterr().err
    assert '"argument"' in line
    assert '"pid"' in line
    assert "planted-canary" not in line


def test_child_of_a_short_thread_survives_that_thread():
    """The kernel's death signal follows the starting thread; a pool thread that ends must not end its program."""
    pipes: list[Pipe] = []
    thread = threading.Thread(target=lambda: pipes.append(Pipe(["sleep", "60"], stdout=False)))
    thread.start()
    thread.join()
    time.sleep(0.5)
    assert pipes[0].running()
    pipes[0].stop()


PARENT = """
    import sys, time
    from dr_toolkit.process import Pipe
    pipe = Pipe(["sleep", "300"], stdout=False, user=sys.argv[1] if len(sys.argv) > 1 else None)
    print(pipe.pid, flush=True)
    time.sleep(300)
"""


def parent(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    """A Python process with one program started by our gate, and that program's process id once it really runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    pid = int(process.stdout.readline())
    deadline = time.monotonic() + WAIT_SECONDS
    while Path(f"/proc/{pid}/comm").read_text().strip() != "sleep":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process, pid


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_program_dies_when_drctl_is_killed():
    """Killing the parent with SIGKILL leaves no program behind."""
    process, pid = parent()
    process.kill()
    process.communicate()
    assert gone(pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_program_of_another_user_dies_when_drctl_is_killed():
    """The death signal is set after the change of user, which would have cleared it."""
    process, pid = parent("nobody")
    assert Path(f"/proc/{pid}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    process.kill()
    process.communicate()
    assert gone(pid)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_run_as_another_user_has_that_users_groups_only():
    """No group of root remains."""
    nobody = pwd.getpwnam("nobody")
    out = run(["id", "-G"], user="nobody", cwd="/").stdout.split()
    assert [int(gid) for gid in out] == os.getgrouplist("nobody", nobody.pw_gid)
    assert run(["id", "-u"], user="nobody", cwd="/").stdout.strip() == str(nobody.pw_uid).encode()


def test_unknown_user():
    """A user that is not there is an error that names it."""
    with pytest.raises(ProgramError, match='no user "nobody-of-that-name"'):
        run(["true"], user="nobody-of-that-name")


def test_interruption_ends_the_program():
    """A signal handler that raises in the middle of run leaves no program behind."""

    def handler(number: int, _frame: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Interrupted):
            run(["sh", "-c", "exec sleep 299"])
    finally:
        signal.signal(signal.SIGALRM, before)
    mine = [p for p in Path("/proc").glob("[0-9]*/stat") if p.read_text().split()[3] == str(os.getpid())]
    assert not [p for p in mine if "(sleep)" in p.read_text()]


def test_find_program_prefers_the_given_directories(tmp_path):
    """A named directory wins over PATH, in order; a file that is not executable is passed over."""
    first, second = tmp_path / "a", tmp_path / "b"
    for directory, mode in ((first, 0o644), (second, 0o755)):
        directory.mkdir()
        (directory / "sh").write_text("")
        (directory / "sh").chmod(mode)
    assert find_program("sh", [str(first), str(second)]) == str(second / "sh")
    assert find_program("sh", []) is not None
    assert find_program("no-such-program-here", [str(first)]) is None


def test_standard_error_is_closed_even_when_a_grandchild_keeps_it_open():
    """The reader closes it when it ends, however long that takes: no descriptor is left to the collector."""
    pipe = Pipe(["sh", "-c", "sleep 1.5 & exit 0"], stdout=False)
    pipe.wait()
    pipe.stop()
    assert pipe._drain.is_alive()
    pipe._drain.join(timeout=20)
    assert pipe._popen.stderr.closed


@pytest.mark.parametrize(("comes", "last"), [(768 << 10, 0.0001), (4 << 10, 0.002)])
def test_a_pipe_gets_the_moment_that_it_needs(
    monkeypatch: pytest.MonkeyPatch, comes: int, last: float
) -> None:
    """A program that fills its pipe meanwhile is not kept waiting for us; one that trickles does not wake us for each piece."""
    there, back = os.pipe()
    with os.fdopen(there, "rb", 0) as reading, os.fdopen(back, "wb", 0) as writing:
        streams.enlarge(writing)
        gathered, moments = cast("io.BufferedReader", streams.gathered(reading, buffered=True)), list[float]()

        def meanwhile(seconds: float) -> None:
            moments.append(seconds)
            writing.write(bytes(comes))

        monkeypatch.setattr(clock, "sleep", meanwhile)
        buffer = bytearray(1 << 20)
        for _ in range(10):
            gathered.readinto1(buffer)
        assert moments[0] == 0.002
        assert moments[-1] == pytest.approx(last, rel=0.3)
