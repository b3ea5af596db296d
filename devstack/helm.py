"""The real program ``helm``: install, upgrade, fail, roll back, and be killed in the middle."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from devstack import programs
from dr_toolkit.errors import ProgramError

LIMIT = 180


class Helm:
    """Helm with a kubeconfig and a home of its own.

    Args:
        program: its path.
        kubeconfig: whom it logs in as.
        home: where it keeps its caches; made if missing.
    """

    def __init__(self, program: Path, kubeconfig: Path, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.program = program
        self.home = home
        self._environment = programs.base_environment() | {"HOME": str(home), "KUBECONFIG": str(kubeconfig)}

    def run(self, *arguments: str, driver: str = "secret") -> str:
        """Run it.

        Args:
            arguments: its arguments.
            driver: where releases are kept: ``secret`` or ``configmap``.

        Returns:
            What it wrote to standard output.

        Raises:
            ProgramError: it failed; ``stderr`` has what it said.
        """
        environment = self._environment | {"HELM_DRIVER": driver}
        done = subprocess.run(
            [str(self.program), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        if done.returncode != 0:
            raise ProgramError(
                f'"helm {arguments[0]}" ended with {done.returncode}: {done.stderr[-2000:]}',
                on="helm",
                stderr=done.stderr,
            )
        return done.stdout

    def install(
        self,
        release: str,
        chart: Path,
        namespace: str,
        values: Mapping[str, Any] | None = None,
        *options: str,
        driver: str = "secret",
    ) -> None:
        """Install a release.

        Args:
            release: its name.
            chart: a chart's directory.
            namespace: where.
            values: the user's values.
            options: more options.
            driver: where releases are kept.
        """
        self.run("install", release, str(chart), *self._in(namespace, values), *options, driver=driver)

    def upgrade(
        self,
        release: str,
        chart: Path,
        namespace: str,
        values: Mapping[str, Any] | None = None,
        *options: str,
        driver: str = "secret",
    ) -> None:
        """Upgrade a release.

        Args:
            release: its name.
            chart: a chart's directory.
            namespace: where.
            values: the user's values.
            options: more options, such as ``--wait --timeout 2s`` to make it fail.
            driver: where releases are kept.
        """
        self.run("upgrade", release, str(chart), *self._in(namespace, values), *options, driver=driver)

    def rollback(self, release: str, revision: int, namespace: str) -> None:
        """Go back to an older revision.

        Args:
            release: its name.
            revision: which.
            namespace: where.
        """
        self.run("rollback", release, str(revision), "--namespace", namespace)

    def history(self, release: str, namespace: str) -> list[dict[str, Any]]:
        """List the revisions of a release.

        Args:
            release: its name.
            namespace: where.

        Returns:
            Helm's own objects, oldest first.
        """
        found = self.run("history", release, "--namespace", namespace, "--output", "json")
        return list(json.loads(found))

    def status(self, release: str, namespace: str) -> str:
        """Name the state of the newest revision.

        Args:
            release: its name.
            namespace: where.

        Returns:
            Such as ``deployed``, ``failed`` or ``pending-upgrade``.
        """
        return str(self.history(release, namespace)[-1]["status"])

    def upgrade_killed(
        self,
        release: str,
        chart: Path,
        namespace: str,
        values: Mapping[str, Any] | None = None,
        *,
        until: Callable[[], bool] | None = None,
    ) -> None:
        """Upgrade a release that never becomes ready, and SIGKILL Helm while it waits.

        Args:
            release: its name.
            chart: a chart's directory.
            namespace: where.
            values: the user's values; the workloads must not become ready, which they do not where there is no node.
            until: when to kill; by default when the pending revision is stored.

        Raises:
            ProgramError: Helm ended before it could be killed.
        """
        ready = until or (lambda: self.status(release, namespace) == "pending-upgrade")
        arguments = [
            "upgrade",
            release,
            str(chart),
            *self._in(namespace, values),
            "--wait",
            "--timeout",
            "10m",
        ]
        server = programs.Server("helm upgrade", self.home / "upgrade-killed.log")
        server.start([str(self.program), *arguments], self._environment)
        deadline = time.monotonic() + LIMIT
        while not ready():
            if not server.running or time.monotonic() > deadline:
                said = programs.log_tail(server.log)
                server.stop()
                raise ProgramError(f"helm upgrade was not left in the middle: {said}", on="helm", stderr=said)
        server.kill_tree()

    def _in(self, namespace: str, values: Mapping[str, Any] | None) -> Sequence[str]:
        options = ["--namespace", namespace]
        if values:
            path = self.home / "values.json"
            path.write_text(json.dumps(values))
            options += ["--values", str(path)]
        return options
