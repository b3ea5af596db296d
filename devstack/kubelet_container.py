"""One container of a Pod: a process that is started, watched, probed, started again, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from devstack import programs, web
from devstack.kubelet_volumes import Environment, NotYetError, Volumes, expanded, rewriter

BACKOFF = 0.5
"""Seconds before a container is started again, and before an image is tried again; a real node takes 10 and more."""
START_ERROR = 128


def now() -> str:
    """Write the time as Kubernetes does."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Container:
    """One container.

    Args:
        spec: from the Pod.
        pod: the Pod, with its address in the status.
        directory: its own, for logs and its home.
        images: reads the table of images.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        pod: Mapping[str, Any],
        directory: Path,
        images: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.spec = spec
        self.name = str(spec["name"])
        self.restarts = 0
        self.state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
        self.last: dict[str, Any] = {}
        self.ready = False
        self.started = False
        self._pod = pod
        self._directory = directory
        self._images = images
        self._process: subprocess.Popen[bytes] | None = None
        self._began = ""
        self._next = 0.0
        self._next_probe = 0.0
        self._argv: Callable[[list[str]], list[str]] | None = None
        self._environment: dict[str, str] = {}
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o777)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self._process is not None

    @property
    def exit_code(self) -> int | None:
        """The exit code, once it has ended."""
        ended = self.state.get("terminated")
        return int(ended["exitCode"]) if ended else None

    def log_file(self, *, previous: bool = False) -> Path:
        """Name the file of its output.

        Args:
            previous: that of the run before.
        """
        return self._directory / f"{max(self.restarts - previous, 0)}.log"

    def start(self, volumes: Volumes, environment: Environment) -> None:
        """Start it, when it is time; where that cannot be, the state says why.

        Args:
            volumes: of the Pod.
            environment: of the Pod.
        """
        if time.monotonic() < self._next:
            return
        image = self._images().get(self.spec["image"])
        if image is None:
            again = "ErrImagePull" in str(self.state) or "ImagePullBackOff" in str(self.state)
            name = self.spec["image"]
            reason = "ImagePullBackOff" if again else "ErrImagePull"
            text = (
                f'Back-off pulling image "{name}"'
                if again
                else f'failed to pull and unpack image "{name}": not found'
            )
            self._wait(reason, text)
            return
        try:
            mounts = volumes.mounts([self.spec])
            own = {name: rewriter(mounts)(value) for name, value in image["environment"].items()}
            self._environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"} | own
            self._environment |= environment.of(self.spec, mounts, self._directory)
        except NotYetError as missing:
            self._wait("CreateContainerConfigError", str(missing))
            return
        rewrite = rewriter(mounts)

        def argv(words: list[str]) -> list[str]:
            words = [rewrite(expanded(word, self._environment)) for word in words]
            return [*image["named"].get(words[0], [words[0]]), *words[1:]] if words else []

        self._argv = argv
        command, arguments = list(self.spec.get("command", [])), list(self.spec.get("args", []))
        whole = (
            argv([*command, *arguments])
            if command
            else [*image["entrypoint"], *argv_only(rewrite, arguments, self._environment)]
        )
        self._run(whole, image.get("user"), rewrite(self.spec.get("workingDir", "/")))

    def _run(self, argv: list[str], user: str | None, directory: str) -> None:
        self._began = now()
        if not argv or not Path(argv[0]).exists():
            said = f'exec: "{argv[0] if argv else ""}": executable file not found'
            self._ended(START_ERROR, "StartError", said)
            return
        log = self.log_file()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                programs.launch(argv, user, signal.SIGKILL),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory if Path(directory).is_dir() else "/",
                start_new_session=True,
            )
        self.state = {"running": {"startedAt": self._began}}
        self.ready = "readinessProbe" not in self.spec and "startupProbe" not in self.spec
        self.started = "startupProbe" not in self.spec

    def watch(self, address: str) -> None:
        """Look whether it ended, and probe it.

        Args:
            address: the Pod's.
        """
        if self._process is None:
            return
        code = self._process.poll()
        if code is not None:
            self._process = None
            number = code if code >= 0 else START_ERROR - code
            self._ended(number, "Completed" if number == 0 else "Error", "")
        elif time.monotonic() >= self._next_probe:
            self._probe(address)

    def restart_later(self) -> None:
        """Let ``start`` run it again after a while."""
        self.last = {"terminated": self.state["terminated"]}
        self.restarts += 1
        self._wait("CrashLoopBackOff", "back-off restarting failed container")

    def end(self, number: signal.Signals) -> None:
        """Send a signal to its processes.

        Args:
            number: SIGTERM reaches the first process only, SIGKILL all.
        """
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    def status(self) -> dict[str, Any]:
        """Say how it is, as a Pod's status has it."""
        image = self.spec["image"]
        return {
            "name": self.name,
            "image": image,
            "imageID": image if "@sha256:" in image else "",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": self.state,
            "lastState": self.last,
        }

    def _wait(self, reason: str, message: str) -> None:
        self.state = {"waiting": {"reason": reason, "message": message}}
        self.ready = False
        self._next = time.monotonic() + BACKOFF

    def _ended(self, code: int, reason: str, message: str) -> None:
        self.ready = self.started = False
        if not message and self.spec.get("terminationMessagePolicy") == "FallbackToLogsOnError" and code:
            message = programs.log_tail(self.log_file())[-2048:]
        self.state = {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "message": message,
                "startedAt": self._began,
                "finishedAt": now(),
            }
        }

    def _probe(self, address: str) -> None:
        kind = "readinessProbe" if self.started else "startupProbe"
        probe = self.spec.get(kind)
        if not probe:
            self.ready = self.started
            return
        self._next_probe = time.monotonic() + min(1, probe.get("periodSeconds", 10))
        good = self._good(probe, address)
        if kind == "startupProbe":
            self.started = good
            self.ready = good and "readinessProbe" not in self.spec
        else:
            self.ready = good

    def _good(self, probe: Mapping[str, Any], address: str) -> bool:
        if "exec" in probe:
            argv = self._argv(list(probe["exec"]["command"])) if self._argv else []
            try:
                done = subprocess.run(
                    argv,
                    env=self._environment,
                    capture_output=True,
                    check=False,
                    timeout=probe.get("timeoutSeconds", 1),
                )
            except (OSError, subprocess.TimeoutExpired):
                return False
            return done.returncode == 0
        where = probe.get("httpGet") or probe["tcpSocket"]
        port = self._port(where["port"])
        try:
            if "tcpSocket" in probe:
                socket.create_connection((address, port), timeout=1).close()
                return True
            url = f"http://{address}:{port}{where.get('path', '/')}"
            return 200 <= web.request(url, timeout=probe.get("timeoutSeconds", 1))[0] < 400
        except (OSError, HTTPException):
            return False

    def _port(self, named: int | str) -> int:
        for port in self.spec.get("ports", []):
            if port.get("name") == named:
                return int(port["containerPort"])
        return int(named)


def argv_only(
    rewrite: Callable[[str], str], arguments: list[str], environment: Mapping[str, str]
) -> list[str]:
    """Make the arguments of an image's own program.

    Args:
        rewrite: replaces mount paths.
        arguments: of the container.
        environment: of the container.

    Returns:
        The arguments.
    """
    return [rewrite(expanded(word, environment)) for word in arguments]
