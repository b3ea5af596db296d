"""Check a restored cluster: ``pg_verifybackup``, then a start for ourselves alone, and that recovery came as far as it must."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dr_toolkit import clock, log, process
from dr_toolkit.errors import ProgramError, TargetError, VerificationFailed
from dr_toolkit.postgres import scratch_places, server
from dr_toolkit.postgres.base_files import MARKER
from dr_toolkit.postgres.base_manifest import format_lsn, parse_lsn
from dr_toolkit.postgres.connection import ConnectionSettings
from dr_toolkit.postgres.tools import Tools, beside

VERIFY = "pg_verifybackup"
_PORT = 5432
_STEP = 0.05
_RECOVERY_SECONDS = 24 * 3600.0
_STOP_SECONDS = 600
_READY_LINE = 7
_DATABASE = "template1"

_log = log.get("postgres.base")


@dataclass(frozen=True, slots=True)
class Target:
    """What recovery must reach, from the snapshot's header.

    Attributes:
        end: the end of the backup's WAL.
        timeline: where it is.
        superuser: the name of the cluster's first role, for a session of our own.
        max_prepared_transactions: the source's: recovery needs as many.
        time: everything that was committed up to then is before ``end``; None where the backup could not know.
    """

    end: int
    timeline: int
    superuser: str
    max_prepared_transactions: int
    time: datetime | None = None

    @classmethod
    def of(cls, source: dict[str, object]) -> Target:
        """From a snapshot's source facts.

        Raises:
            VerificationFailed: the snapshot does not say.
        """
        base = source.get("base")
        try:
            assert isinstance(base, dict)  # noqa: S101 - told below
            return cls(
                parse_lsn(str(base["end_lsn"])),
                int(base["timeline"]),
                str(base["superuser"]),
                int(base["max_prepared_transactions"]),
                clock.parse_rfc3339(str(base["time"])) if "time" in base else None,
            )
        except (AssertionError, KeyError, ValueError) as error:
            raise VerificationFailed("the snapshot does not say what recovery must reach") from error


def verify_files(server_tools: Tools, directory: Path) -> None:
    """Have ``pg_verifybackup`` look at every file, and at the WAL where it is of the server's version: another cannot read it.

    Raises:
        VerificationFailed: it complains.
        SourceError: it is not installed.
    """
    tools = beside(server_tools, (VERIFY,))
    wal = () if tools.major == server_tools.major else ("--no-parse-wal",)
    argv = [tools.program(VERIFY), f"--ignore={MARKER}", "--quiet", *wal, str(directory)]
    try:
        process.run(argv, env=_environment(tools))
    except ProgramError as error:
        raise VerificationFailed(
            f"the restored files are not those of the backup: {error.message}",
            on=str(directory),
            hint="verify the snapshot: drctl verify --data",
        ) from error


@contextmanager
def started(
    tools: Tools,
    directory: Path,
    target: Target,
    user: str | None,
    following: Mapping[str, str] | None = None,
    *,
    lasting: bool = True,
) -> Iterator[ConnectionSettings]:
    """Start a server on the directory that nobody else can reach, and stop it in good order at the end.

    It has settings of its own: the source's may name files and libraries that are not here.

    Args:
        tools: the server's programs.
        directory: the cluster.
        target: what recovery must reach.
        user: who runs it.
        following: more settings, of a cluster that opens for reading only because it is to follow another or to recover further.
        lasting: whether the cluster is to outlive a power cut. One in scratch need not wait for the disk.

    Raises:
        TargetError: it does not start.
        VerificationFailed: recovery ended short of the backup's end, or on another timeline.
    """
    place = scratch_places.Place(user)
    try:
        settings = ConnectionSettings(
            hosts=((str(place.directory), _PORT),),
            database=_DATABASE,
            user=target.superuser,
            sslmode="disable",
        )
        more = dict(following or {}) | ({} if lasting else {"fsync": "off"})
        options = _options(place.directory, target, more)
        argv = [tools.program("postgres"), "-D", str(directory), *options]
        _write_rules(place.directory, user)
        with process.Pipe(
            argv, env=_environment(tools), user=user, stdout=False, cwd="/", end_signal=signal.SIGINT
        ) as pipe:
            _wait_until_ready(pipe, directory)
            check_recovery(settings, target, recovering=following is not None)
            yield settings
            _stop(tools, directory, user)
    finally:
        place.remove()


def check_recovery(settings: ConnectionSettings, target: Target, *, recovering: bool = False) -> None:
    """The first query: how far recovery came, and whether it goes on where it should and nowhere else.

    Raises:
        VerificationFailed: not to the end of the backup, or on another timeline.
    """
    with closing(server.connect(settings)) as session:
        [(goes_on, reached, timeline)] = server.query(
            session,
            "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() "
            "ELSE pg_current_wal_lsn() END::text, timeline_id FROM pg_control_checkpoint()",
        )
    if parse_lsn(reached) < target.end or timeline != target.timeline or goes_on != recovering:
        raise VerificationFailed(
            f"recovery ended at {reached} on timeline {timeline}; it must reach {format_lsn(target.end)} "
            f"on timeline {target.timeline}{_held(target)}",
            hint="do not use what was restored; restore another snapshot",
        )
    _log.info("recovered", reached=reached, timeline=timeline)


def _held(target: Target) -> str:
    return f", and with it all that was committed up to {clock.rfc3339(target.time)}" if target.time else ""


def _options(place: Path, target: Target, more: Mapping[str, str]) -> list[str]:
    """On the command line, where no file of the cluster overrules them."""
    values = {
        "config_file": str(place / "postgresql.conf"),
        "hba_file": str(place / "pg_hba.conf"),
        "ident_file": str(place / "pg_ident.conf"),
        "listen_addresses": "",
        "port": str(_PORT),
        "unix_socket_directories": str(place),
        "unix_socket_permissions": "0700",
        "external_pid_file": "",
        "shared_preload_libraries": "",
        "archive_mode": "off",
        "autovacuum": "off",
        "ssl": "off",
        "logging_collector": "off",
        "log_destination": "stderr",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "huge_pages": "off",
        "max_prepared_transactions": str(target.max_prepared_transactions),
        "restart_after_crash": "off",
        "event_source": "drctl",
    }
    return [part for name, value in (values | dict(more)).items() for part in ("-c", f"{name}={value}")]


def _write_rules(place: Path, user: str | None) -> None:
    files = {"postgresql.conf": "", "pg_ident.conf": "", "pg_hba.conf": "local all all trust\n"}
    for name, text in files.items():
        (place / name).write_text(text)
        if user is not None:
            scratch_places.give(place / name, user)


def _wait_until_ready(pipe: process.Pipe, directory: Path) -> None:
    deadline = clock.monotonic() + _RECOVERY_SECONDS
    while pipe.running() and clock.monotonic() < deadline:
        if _state(directory, pipe.pid) == "ready":
            return
        clock.sleep(_STEP)
    lines = [line.strip() for line in pipe.stderr_tail().splitlines() if line.strip()]
    raise TargetError(
        f"the restored server does not start: {'; '.join(lines[-3:]) or 'it said nothing'}",
        on=str(directory),
        hint="verify the snapshot: drctl verify --data; look at free memory and disk",
    )


def _state(directory: Path, pid: int) -> str | None:
    with suppress(OSError):
        lines = (directory / "postmaster.pid").read_text().splitlines()
        if len(lines) > _READY_LINE and lines[0].strip() == str(pid):
            return lines[_READY_LINE].strip()
    return None


def _stop(tools: Tools, directory: Path, user: str | None) -> None:
    argv = [
        tools.program("pg_ctl"),
        "stop",
        "-D",
        str(directory),
        "-m",
        "fast",
        "-w",
        "-t",
        str(_STOP_SECONDS),
    ]
    try:
        process.run(argv, env=_environment(tools), user=user, cwd="/")
    except ProgramError as error:
        raise TargetError(f"the restored server does not stop: {error.message}", on=str(directory)) from error


def _environment(tools: Tools) -> dict[str, str]:
    return {"PATH": f"{tools.directory}:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", **tools.env}
