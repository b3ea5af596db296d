"""What was done of one plan, on this machine: a file, so that a run that was killed can be continued."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dr_toolkit import clock, errors, log

_log = log.get("jobs.restore")
_PREFIX = "restore-"


class Journal:
    """Of one plan.

    Args:
        path: the file; its directory is made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def done(self) -> frozenset[tuple[str, str]]:
        """(component, snapshot id) of finished steps.

        Raises:
            DataError: the file is not a journal.
        """
        return frozenset((str(component), str(snapshot)) for component, snapshot in self._read()["done"])

    def began(self) -> str | None:
        """When the plan was begun, RFC 3339; None when it was not, or is done.

        Raises:
            DataError: the file is not a journal.
        """
        return self._read()["began"] or None

    def begin(self) -> None:
        """Note that the plan is being carried out, unless that is noted already."""
        if self.began() is None:
            self._write(clock.rfc3339(clock.now()), [])

    def add(self, component: str, snapshot: str) -> None:
        """Note a finished step, durably."""
        rows = sorted({*self.done(), (component, snapshot)})
        self._write(self.began() or clock.rfc3339(clock.now()), rows)

    def clear(self) -> None:
        """Forget: the plan was carried out, or is begun anew."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            value = json.loads(self.path.read_text("utf-8"))
            rows = [(component, snapshot) for component, snapshot in value["done"]]
            return {"began": str(value.get("began", "")), "done": rows}
        except FileNotFoundError:
            return {"began": "", "done": []}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise errors.DataError(
                f'"{self.path}" cannot be read as the journal of a restore',
                on=str(self.path),
                hint="remove it to begin anew",
                unaffected="nothing was started",
            ) from error

    def _write(self, began: str, rows: list[tuple[str, str]]) -> None:
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                json.dump({"began": began, "done": rows}, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:  # the restore itself went well
            _log.warning("journal not written", path=str(self.path), reason=str(error.strerror))


def journal_of(name: str) -> Journal:
    """The journal of a plan, in the user's state directory."""
    return Journal(_directory() / f"{_PREFIX}{name.replace(':', '')}.json")


def unfinished() -> list[str]:
    """Names of plans that were begun on this machine and not carried out to the end, as their files have them."""
    return sorted(
        path.name.removeprefix(_PREFIX).removesuffix(".json")
        for path in _directory().glob(f"{_PREFIX}*.json")
    )


def _directory() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(base) / "drctl"
