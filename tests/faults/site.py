"""A protected database, a repository, and `drctl` as the process that an operator runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import psutil

from dr_toolkit.cli import main
from dr_toolkit.config import load
from dr_toolkit.jobs import opening
from dr_toolkit.keys.key_file import generate
from dr_toolkit.repository.repository import Repository

DRCTL = Path(sys.executable).parent / "drctl"
COMPONENT = "console-db"


@dataclass(frozen=True)
class Source:
    """A database to protect, on a server that stays."""

    host: str
    port: int
    user: str
    password: str
    database: str
    programs: str


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """What it printed as JSON."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """Its error document, or the first of its failures."""
        document = self.document
        return document["error"] if "error" in document else document["failures"][0]

    @property
    def snapshot(self) -> dict[str, Any]:
        """The one snapshot of a backup."""
        (found,) = self.document["snapshots"]
        return found

    def expect(self, code: int) -> Answer:
        """Insist on an exit code; what the command said is in the failure."""
        assert self.code == code, f"exit {self.code} instead of {code}\n{self.out}\n{self.err}"
        return self


RUNNING: list[Run] = []
"""Every run that was started and not yet waited for: a test that fails in the middle leaves none behind."""


def end_all() -> None:
    """Kill what failed tests left."""
    while RUNNING:
        run = RUNNING.pop()
        for process in [*run.family(), run.process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        run.finish()


IMPATIENT = """
import sys
from dr_toolkit.repository import opening
opening.open_store.__kwdefaults__["retry_seconds"] = float(sys.argv.pop(1))
from dr_toolkit.cli.start import entry_point
entry_point()
"""
"""drctl, but a storage that is away is tried for so many seconds only: nothing else is another."""


class Run:
    """``drctl`` while it runs: its log is read line by line, so that a test can act at a stage."""

    def __init__(
        self, arguments: Sequence[str], environment: dict[str, str], patience: float | None = None, **how: Any
    ) -> None:
        program = [str(DRCTL)] if patience is None else [sys.executable, "-c", IMPATIENT, str(patience)]
        self.argv = [*program, *arguments]
        self.process = subprocess.Popen(
            self.argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **how,
        )
        self.err: list[str] = []
        self._out: list[str] = []
        self._family: dict[int, psutil.Process] = {}
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self._out), (self.process.stderr, self.err))
        ]
        for reader in self._readers:
            reader.start()
        RUNNING.append(self)

    @staticmethod
    def _read(stream: Any, lines: list[str]) -> None:
        with stream:
            lines.extend(stream)

    @property
    def pid(self) -> int:
        """Of drctl."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether drctl is alive."""
        return self.process.poll() is None

    def events(self) -> list[dict[str, Any]]:
        """The log so far."""
        found = []
        for line in list(self.err):
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def until_event(self, event: str, *, seconds: float = 60) -> dict[str, Any]:
        """Wait for a line of the log."""

        def seen() -> dict[str, Any] | None:
            return next((e for e in self.events() if e.get("event") == event), None)

        return self.until(seen, f'the event "{event}"', seconds=seconds)

    def until(self, ready: Callable[[], Any], what: str, *, seconds: float = 60) -> Any:
        """Wait until something is true of a running drctl, and give it."""
        deadline = time.monotonic() + seconds
        while not (found := ready()):
            assert self.running, f"drctl ended before {what}:\n{''.join(self._out)}\n{''.join(self.err)}"
            assert time.monotonic() < deadline, f"no {what} in {seconds} s"
            time.sleep(0.001)
        return found

    def family(self) -> list[psutil.Process]:
        """Every program that drctl has started as far as we saw."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children(recursive=True):
                self._family.setdefault(child.pid, child)
        return list(self._family.values())

    def program(self, name: str) -> psutil.Process:
        """A program of this run, once it runs under its own name."""

        def look() -> psutil.Process | None:
            for process in self.family():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.name() == name:
                        return process
            return None

        return self.until(look, f'the program "{name}"')

    def kill(self) -> None:
        """SIGKILL, as the kernel's out-of-memory killer does it. What a test froze goes on."""
        family = self.family()
        self.process.kill()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to drctl alone."""
        self.family()
        self.process.send_signal(number)

    def wait(self, seconds: float = 120) -> Answer:
        """Wait for the end; nothing that it started may outlive it by more than a moment."""
        code = self.process.wait(seconds)
        self.finish()
        if self in RUNNING:
            RUNNING.remove(self)
        _gone, alive = psutil.wait_procs(self.family(), timeout=10)
        assert not alive, f"programs outlived drctl: {alive}"
        return Answer(code, "".join(self._out), "".join(self.err))

    def finish(self) -> None:
        """Read its output to the end."""
        self.process.wait(60)
        for reader in self._readers:
            reader.join(10)


@dataclass
class Site:
    """One repository with its keys and three configurations: everything, write only, read only.

    Attributes:
        root: everything of this site is below it.
        url: of the repository.
        source: the database.
        s3: the ``s3`` block of the configuration, with references to secrets.
        environment: added to drctl's.
    """

    root: Path
    url: str
    source: Source
    s3: dict[str, str] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    trust: str | None = None

    def __post_init__(self) -> None:
        self.tmp = self.root / "tmp"
        self.tmp.mkdir(parents=True)
        self.password_file = self.root / "password"
        self.password_file.write_text(self.source.password + "\n")
        self.password_file.chmod(0o600)
        self.keys: dict[str, dict[str, str]] = {}
        for role in ("write", "read"):
            path = self.root / f"{role}.key"
            generate(str(path))
            self.keys[role] = {"type": "key-file", "role": role, "path": str(path)}
        self.configure()

    @property
    def directory(self) -> Path:
        """Where the repository is, if it is a directory."""
        return Path(self.url.removeprefix("file://"))

    @property
    def config(self) -> Path:
        """All recipients."""
        return self.root / "drctl.yaml"

    @property
    def write_config(self) -> Path:
        """What a backup job has: the recipient with the role "write" only."""
        return self.root / "write.yaml"

    @property
    def read_config(self) -> Path:
        """What whoever restores has."""
        return self.root / "read.yaml"

    def configure(self, **changes: Any) -> None:
        """Write the configurations. YAML takes JSON."""
        self.config.write_text(json.dumps(self.settings(self.keys, **changes)))
        for role, path in (("write", self.write_config), ("read", self.read_config)):
            some = {name: key for name, key in self.keys.items() if key["role"] == role}
            path.write_text(json.dumps(self.settings(some, **changes)))

    def settings(
        self, keys: dict[str, Any], *, trust: str | None = None, url: str | None = None
    ) -> dict[str, Any]:
        """The content of a drctl.yaml."""
        repository: dict[str, Any] = {"url": url or self.url}
        if trust or self.trust:
            repository["trust"] = trust or self.trust
        if self.s3:
            repository["s3"] = self.s3
        source = self.source
        connection = {
            "host": source.host,
            "port": source.port,
            "database": source.database,
            "user": source.user,
            "password": f"file:{self.password_file}",
            "sslmode": "disable",
            "programs": source.programs,
        }
        return {
            "version": 1,
            "repository": repository,
            "keys": keys,
            "components": {COMPONENT: {"kind": "postgres-dump", "connection": connection}},
        }

    # -- commands -----------------------------------------------------------------------------------------------------

    def start(self, *arguments: str, config: Path | None = None, **how: Any) -> Run:
        """Start drctl and do not wait; ``patience``: how many seconds a storage that is away is tried."""
        common = ["--config", str(config or self.config), "--output", "json", "--log-format", "json", "-v"]
        environment = {**os.environ, "TMPDIR": str(self.tmp), **self.environment}
        return Run([*arguments, *common], environment, **how)

    def drctl(self, *arguments: str, config: Path | None = None, seconds: float = 120) -> Answer:
        """Run drctl to its end."""
        return self.start(*arguments, config=config).wait(seconds)

    def inside(self, *arguments: str, config: Path | None = None) -> Answer:
        """The same command within this process: for checks that are made by the dozen."""
        out, err = StringIO(), StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.run([*arguments, "--config", str(config or self.config), "--output", "json"])
        return Answer(code, out.getvalue(), err.getvalue())

    def init(self, grace: str = "7d") -> Site:
        """Make the repository, and pin its key."""
        made = self.inside("init", "--grace", grace).expect(0).document
        self.trust = made["trust"]
        self.configure()
        return self

    def use(self, s3: dict[str, str]) -> None:
        """Reach the same bucket in another way."""
        self.s3 = s3
        self.configure()

    def backup(self, *arguments: str, config: Path | None = None) -> dict[str, Any]:
        """Take a snapshot, within this process."""
        return self.inside("backup", *arguments, config=config or self.write_config).expect(0).snapshot

    def ids(self) -> list[str]:
        """The snapshots that ``drctl snapshots`` lists, when it finds nothing wrong."""
        return [s["id"] for s in self.inside("snapshots").expect(0).document["snapshots"]]

    @contextlib.contextmanager
    def opened(self, config: Path | None = None) -> Iterator[Repository]:
        """The repository itself."""
        with opening.opened_repository(load(config or self.config)) as repository:
            yield repository

    # -- after the damage ---------------------------------------------------------------------------------------------

    def is_as_good_as_before(self, committed: Sequence[str]) -> dict[str, Any]:
        """What must hold after any failed run.

        Exactly the committed snapshots are listed, their data verify, no program is left running, and the next backup succeeds
        and verifies. Returns that backup.
        """
        self.leaves_nothing_behind()
        assert self.ids() == list(committed)
        if committed:
            self.inside("verify", "--data").expect(0)
        made = self.backup()
        assert self.ids() == [*committed, made["id"]]
        (result,) = self.inside("verify", "--data").expect(0).document["results"]
        assert result["snapshot"] == made["id"]
        assert result["result"] == "passed"
        return made

    def leaves_nothing_behind(self) -> None:
        """No program of a run that ended."""
        using = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.tmp) in process.environ().get("PGPASSFILE", ""):
                    using.append(process)
        assert not using, f"programs were left behind: {using}"

    def leaves_no_credentials(self) -> None:
        """No temporary file at all, so none with a password."""
        left = [path for path in self.tmp.rglob("*") if path.is_file()]
        assert not left, f"files were left behind: {left}"

    def objects(self, folder: str = "") -> list[Path]:
        """The objects of a repository in a directory, in order of name."""
        found = (self.directory / folder).rglob("*")
        return sorted(p for p in found if p.is_file() and p.relative_to(self.directory).parts[0] != "tmp")
