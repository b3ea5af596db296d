"""What belongs to the whole server and not to one database: roles, their memberships and settings, tablespaces."""

from __future__ import annotations

from dataclasses import dataclass

from dr_toolkit import process
from dr_toolkit.errors import ProgramError
from dr_toolkit.postgres.connection import ConnectionSettings, credentials
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.entries import EntrySink

GLOBALS_PATH = "globals.sql"

_DENIED = "permission denied"


@dataclass(frozen=True, slots=True)
class Globals:
    """A script that makes the server's globals.

    Attributes:
        script: the statements.
        passwords: whether the roles' password hashes are in it.
    """

    script: bytes
    passwords: bool

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to know about it."""
        if self.passwords:
            return ()
        return (
            "the roles were saved without passwords: the backup's role may not read them; set them again after a restore",
        )


def read_globals(settings: ConnectionSettings, tools: Tools) -> Globals:
    """Ask ``pg_dumpall`` for the globals; without the passwords where the role may not read them (managed servers).

    Raises:
        ProgramError: it failed for another reason.
    """
    with credentials(settings) as env:
        argv = [
            tools.program("pg_dumpall"),
            "--globals-only",
            "--no-password",
            # Not "postgres": the backup's role may be allowed into its own database only.
            f"--database={settings.database}",
        ]
        environment = {**env, **tools.env}
        try:
            return Globals(process.run(argv, env=environment).stdout, passwords=True)
        except ProgramError as error:
            if _DENIED not in error.stderr:
                raise
        script = process.run([*argv, "--no-role-passwords"], env=environment).stdout
        return Globals(script, passwords=False)


def write_globals(found: Globals, sink: EntrySink) -> None:
    """Write them as an entry under ids that nobody can confirm a guess with."""
    sink.begin(GLOBALS_PATH, "globals", cutting="private")
    sink.write(found.script)
    sink.end({"passwords": found.passwords, "roles": found.script.count(b"\nCREATE ROLE ")})
