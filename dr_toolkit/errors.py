"""The one error tree.

Every failure that a user can cause or meet is one of these. A class owns its ``code`` (stable, for scripts), its exit code
and whether a retry makes sense; an instance says what failed, ``on`` which thing, what is ``unaffected`` and what to do
(``hint``). Vendors' exceptions are translated at the edge of the module that talks to the vendor and kept as the cause.

::

    DrctlError                      1  failed
    ├── UsageError                  2  nothing was started
    │   └── ConfigError             2  drctl.yaml says something impossible
    ├── NothingToDo                 1  nothing to work on: never a success
    ├── SourceError                 1  the source ended or refused in the middle
    ├── TargetError                 1  a restore's target is not fit or failed
    ├── ProgramError                1  an external program failed
    ├── CommitRefused               1  a backup ran past its commit deadline
    ├── StoreFull                   1  no space left where the repository lives
    ├── StoreConflict               1  an object exists already with other content
    ├── DataError                   3  the data says no
    │   ├── Damaged                 3  an object does not open or does not hash to its id
    │   ├── ObjectMissing           3  an object that must exist does not
    │   ├── SnapshotMissing         3  a snapshot that was asked for, or is named, is not there
    │   ├── UntrustedKeys           3  keys that do not verify under the pinned trust
    │   ├── UnknownFormat           3  written by a newer drctl
    │   ├── VerificationFailed      3  restored content is not the source's content
    │   └── GuardTripped            3  a safety limit stopped the run
    ├── KeyRefused                  1  a recipient cannot or may not unwrap what is needed
    ├── Unreachable                 5  a retry makes sense
    │   ├── StoreUnreachable        5  the repository's storage
    │   ├── SourceUnreachable       5  a source or a target server
    │   └── KeyUnreachable          5  a recipient's service
    └── Interrupted               130/143  SIGINT, SIGTERM (129: SIGHUP)
"""

from __future__ import annotations

from typing import ClassVar

_COPY = "put this object back from a copy of the repository, or use an earlier snapshot; what else is damaged: drctl verify --data"


class DrctlError(Exception):
    """The root: what failed, in a sentence without a capital or a full stop.

    Args:
        message: what failed, naming the thing in quotes and what was expected. Never a secret.
        on: the thing it failed on (a component, an object's name, a path).
        hint: what to do next, naming a command where there is one.
        unaffected: what is still as it was ("the repository is unchanged").
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False
    remedy: ClassVar[str | None] = None
    """What to do about any error of this class that has no hint of its own."""

    def __init__(
        self,
        message: str,
        *,
        on: str | None = None,
        hint: str | None = None,
        unaffected: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.on = on
        self.hint = hint
        self.unaffected = unaffected


class UsageError(DrctlError):
    """Wrong arguments; nothing was started."""

    code = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """The configuration is impossible; ``problems`` lists everything that is wrong, one line each."""

    code = "config"

    def __init__(
        self, message: str, *, problems: tuple[str, ...] = (), hint: str | None = None, on: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, on=on, unaffected="nothing was started")
        self.problems = problems


class NothingToDo(DrctlError):
    """There is nothing to work on, which is never a success."""

    code = "nothing-to-do"


class SourceError(DrctlError):
    """The source of a backup ended early, refused, or gave something impossible."""

    code = "source"


class TargetError(DrctlError):
    """The target of a restore is not fit, or failed during the restore."""

    code = "target"


class ProgramError(DrctlError):
    """An external program failed; ``stderr`` keeps the end of what it said, secrets masked."""

    code = "program"

    def __init__(
        self,
        message: str,
        *,
        stderr: str = "",
        on: str | None = None,
        hint: str | None = None,
        unaffected: str | None = None,
    ) -> None:
        super().__init__(message, on=on, hint=hint, unaffected=unaffected)
        self.stderr = stderr


class OutputError(DrctlError):
    """The answer could not be written; what the command did is done."""

    code = "output"


class CommitRefused(DrctlError):
    """A backup would be committed after its deadline (docs/format.md, "Commit deadline")."""

    code = "commit-refused"
    retry = True


class StoreFull(DrctlError):
    """No space is left where the repository lives."""

    code = "store-full"


class StoreConflict(DrctlError):
    """An object of that name exists already, with other content."""

    code = "store-conflict"


class DataError(DrctlError):
    """The data says no; ``fault`` is the kind of failure as docs/format.md section 1 names it, where there is one."""

    code = "data"
    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        fault: str = "",
        on: str | None = None,
        hint: str | None = None,
        unaffected: str | None = None,
    ) -> None:
        super().__init__(message, on=on, hint=hint, unaffected=unaffected)
        self.fault = fault


class Damaged(DataError):
    """An object does not open, or its content does not hash to its id."""

    code = "damaged"
    remedy = _COPY


class ObjectMissing(DataError):
    """An object that must exist does not."""

    code = "object-missing"
    remedy = _COPY


class SnapshotMissing(DataError):
    """A snapshot that was asked for, or that another object names, is not there."""

    code = "snapshot-missing"


class UntrustedKeys(DataError):
    """Key files or signatures do not verify under the pinned trust."""

    code = "untrusted-keys"


class UnknownFormat(DataError):
    """The object was written by a newer version of the format."""

    code = "unknown-format"


class VerificationFailed(DataError):
    """What a restore gave is not what the source had."""

    code = "verification-failed"


class GuardTripped(DataError):
    """A safety limit stopped the run."""

    code = "guard-tripped"


class KeyRefused(DrctlError):
    """A recipient cannot, or may not, unwrap what is needed."""

    code = "key-refused"


class Unreachable(DrctlError):
    """A remote side could not be reached, or refused for now."""

    code = "unreachable"
    exit_code = 5
    retry = True


class StoreUnreachable(Unreachable):
    """The repository's storage could not be reached, or refused for now."""

    code = "store-unreachable"


class SourceUnreachable(Unreachable):
    """A source or target server could not be reached, or refused for now."""

    code = "source-unreachable"


class KeyUnreachable(Unreachable):
    """A recipient's service could not be reached, or refused for now."""

    code = "key-unreachable"


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP. Not an ``Exception``, so that no retry can swallow it.

    Args:
        signal_number: 2, 15 or 1; the exit code is 128 more.
    """

    code: ClassVar[str] = "interrupted"

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by signal {signal_number}")
        self.exit_code = 128 + signal_number
