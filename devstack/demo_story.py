"""The demo, step by step: what is shown, and what must be true for it to go on."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from devstack import data, demo_content, demo_summary, programs, sql
from devstack.demo_content import Content
from devstack.demo_platform import CONFIG, CONSOLE, DATABASE, KEY_FILE, Platform, shown_environment
from devstack.demo_screen import Screen
from devstack.demo_shell import Broken, Ran, Shell
from devstack.demo_summary import Figures
from devstack.stack import Stack

DROPPED = ("audit.events", "platform.memberships")
STOLEN = "stolen.dump"
RESCUED = "rescued"
RESCUE = Path(__file__).resolve().parents[1] / "rescue" / "drctl_rescue.py"


class Story:
    """Tells the demo.

    Args:
        screen: where to.
        stack: servers, not started yet.
        directory: where the commands run.
        logs: where their output is kept.
    """

    def __init__(self, screen: Screen, stack: Stack, directory: Path, logs: Path) -> None:
        self._screen = screen
        self._stack = stack
        self._directory = directory
        self._platform = Platform(stack, directory)
        self._shell = Shell(screen, directory, logs)
        self._figures = Figures()
        self._console: psycopg.Connection[tuple[object, ...]] | None = None
        self._safe = directory
        self._trust = ""
        self._before: Content | None = None

    def tell(self, scale: float, *, to_the_end: bool = True) -> None:
        """Show all steps.

        Args:
            scale: of the database.
            to_the_end: also the last one, after which there is no Vault any more.

        Raises:
            Broken: something was not as promised.
        """
        self._screen.title("drctl: a Console database is backed up, proven, damaged, and restored.")
        self._screen.say(
            "Real servers, real commands, all on this machine; everything is removed at the end. Lines after $ are"
            " commands that you could type, lines after | what they answer."
        )
        steps: list[tuple[str, Callable[[], None]]] = [
            ("three servers and a Console database", lambda: self._begin(scale)),
            ("make a repository", self._init),
            ("first backup", self._first_backup),
            ("the backup job cannot read what it wrote", self._try_to_steal),
            ("second backup: only what changed", self._second_backup),
            ("prove it: restore into a throw-away PostgreSQL", self._prove),
            ("a disaster", self._disaster),
            ("restore", self._restore),
            ("is it really the same?", self._compare),
        ]
        if to_the_end:
            steps.append(("the worst day: no Vault, no drctl", self._rescue))
        for number, (title, step) in enumerate(steps, 1):
            self._screen.step(number, len(steps), title)
            try:
                step()
            except (Broken, psycopg.Error) as error:
                raise Broken(f'step {number}, "{title}": {error}') from error
        demo_summary.show(self._screen, self._figures)

    def close(self) -> None:
        """Let go of what is still open."""
        if self._console is not None:
            self._console.close()

    def leave_running(self) -> None:
        """Say how to go on by hand."""
        environment = self._directory / "environment"
        chosen = {
            k: v for k, v in self._platform.environment("read").items() if k.startswith(("DR_", "VAULT_"))
        }
        environment.touch(mode=0o600)
        environment.write_text("".join(f"export {k}={shlex.quote(v)}\n" for k, v in chosen.items()))
        self._screen.blank()
        self._screen.say(
            "Everything is left running until Ctrl-C. In another shell, with the read role's token:"
        )
        self._screen.output(f"cd {self._directory} && . ./environment")
        self._screen.output(f"{programs.installed_script('drctl')} snapshots")

    # The steps -------------------------------------------------------------------------------------------------------

    def _begin(self, scale: float) -> None:
        with self._figures.timed("start"):
            self._stack.start()
        postgres, s3, bao = self._stack.postgres, self._stack.s3, self._stack.bao
        self._screen.facts(
            [
                (
                    f"PostgreSQL {postgres.version}",
                    f"{postgres.host}:{postgres.port}   the database of Console",
                ),
                ("SeaweedFS (S3)", f"{s3.host}:{s3.port}   where the repository will be"),
                ("OpenBao (Vault)", f"{bao.host}:{bao.port}   keeps the keys"),
            ]
        )
        with self._figures.timed("fill"):
            self._platform.fill(scale)
            self._platform.make_keys()
        self._console = psycopg.connect(self._platform.dsn, application_name=CONSOLE, autocommit=True)
        rows = demo_content.rows(self._platform.dsn)
        self._screen.ok(
            f'started; the database "{DATABASE}" has {sum(rows.values()):,} rows in {len(rows)} tables, and Console'
            " is connected to it"
        )

    def _init(self) -> None:
        self._screen.say("Two roles: what backs up holds the write role, which can add but not read.")
        self._platform.configure()
        self._screen.file(CONFIG, self._platform.yaml)
        self._drctl("none", "keys", "generate-file", KEY_FILE)
        self._drctl("none", "config", "check")
        made = self._drctl("init", "init")
        trust = next((w.strip('"') for w in made.output.split() if w.startswith('"ed25519:')), None)
        if trust is None:
            raise Broken("init printed no trust to pin")
        self._trust = trust
        self._platform.pin(trust)
        self._safe = self._platform.lock_key_away()
        self._screen.blank()
        self._screen.ok(
            f"the trust is pinned in {CONFIG}; the key file is taken off this machine, into a safe"
        )

    def _first_backup(self) -> None:
        with self._figures.timed("first"):
            self._drctl("write", "backup")

    def _try_to_steal(self) -> None:
        self._screen.say(
            "A thief has everything that the backup job has: configuration, S3 keys, its Vault token."
        )
        stolen = self._directory / STOLEN
        with self._figures.timed("theft"):
            tried = self._drctl("write", "restore", "console-db", "--to", f"file:{STOLEN}", expect=1)
        self._screen.blank()
        if "refuses this token" not in tried.output or stolen.exists():
            raise Broken("the write role's token was not what was refused")
        self._screen.ok("refused: with the write role alone nothing of the content can be read")

    def _second_backup(self) -> None:
        dsn = self._platform.dsn
        added = data.append_events(dsn, 0.01)
        sql.execute(dsn, "UPDATE platform.users SET state = 'disabled' WHERE email = 'user7@example.com'")
        sql.execute(dsn, "REFRESH MATERIALIZED VIEW audit.events_by_day")
        self._screen.say(f"Life goes on: {added:,} new rows in the audit log, and one user is disabled.")
        with self._figures.timed("second"):
            self._drctl("write", "backup")
        self._before = demo_content.of(dsn)
        self._drctl("write", "snapshots")

    def _prove(self) -> None:
        with self._figures.timed("verify"):
            self._drctl("read", "verify", "console-db", "--restore")
        self._take_figures()

    def _disaster(self) -> None:
        statement = f"DROP TABLE {', '.join(DROPPED)} CASCADE"
        self._screen.say("Somebody meant another database:")
        self._screen.command(f'psql {DATABASE} -c "{statement}"')
        sql.execute(self._platform.dsn, statement)
        self._screen.output("DROP TABLE")
        left = demo_content.rows(self._platform.dsn)
        if not set(DROPPED).isdisjoint(left):
            raise Broken("the tables are still there")
        lost = self._expected.rows - sum(left.values())
        self._screen.blank()
        self._screen.ok(f"{lost:,} rows are gone from the live database; Console is still connected to it")

    def _restore(self) -> None:
        with self._figures.timed("restore"):
            self._drctl("read", "restore", "console-db", "--yes")

    def _compare(self) -> None:
        self._screen.say(
            "Asked by SQL, without drctl: every table's rows and the MD5 over all of them, before and after."
        )
        now = demo_content.of(self._platform.dsn)
        self._show_tables(now)
        differences = self._expected.differences(now)
        if differences:
            raise Broken(f"not as before: {', '.join(differences)}")
        self._screen.ok(
            f"all equal: {len(now.tables)} tables, {len(now.sequences)} sequences, {len(now.large_objects)} large objects,"
            " indexes, constraints, triggers, views, functions"
        )
        self._check_kept()

    def _rescue(self) -> None:
        self._screen.say(
            "OpenBao is stopped for good. What is left: a copy of the bucket, the key file from the safe, and one script"
            " that shares no code with drctl."
        )
        self._stack.bao.stop()
        count = self._platform.copy_repository(self._directory / "copy")
        self._screen.ok(f"{count} objects copied from the bucket to ./copy")
        key = self._safe.relative_to(self._directory)
        arguments = [
            "archive",
            "copy",
            "latest:console-db",
            "--key-file",
            str(key),
            "--trust",
            self._trust,
            "--to",
            "rescued.dump",
        ]
        shown = f"python rescue/drctl_rescue.py archive copy latest:console-db \\\n      --key-file {key} --trust {self._trust[:14]}... --to rescued.dump"
        with self._figures.timed("rescue"):
            self._shell.run(
                [sys.executable, str(RESCUE), *arguments], shown, self._platform.environment("none")
            )
            self._restore_rescued()
        differences = self._expected.differences(demo_content.of(self._stack.postgres.dsn(RESCUED)))
        if differences:
            raise Broken(f"what was rescued is not as before: {', '.join(differences)}")
        self._screen.blank()
        self._screen.ok("PostgreSQL's own pg_restore reads it, and the content is the same again")

    # Their parts -----------------------------------------------------------------------------------------------------

    def _restore_rescued(self) -> None:
        postgres = self._stack.postgres
        postgres.create_database(RESCUED)
        environment = self._platform.environment("none") | {
            "PGHOST": postgres.host,
            "PGPORT": str(postgres.port),
            "PGUSER": postgres.superuser,
            "PGPASSWORD": postgres.password,
        }
        arguments = ["--exit-on-error", "-d", RESCUED, "rescued.dump"]
        self._shell.run(
            [str(postgres.bin_dir / "pg_restore"), *arguments],
            f"pg_restore {shlex.join(arguments)}",
            environment,
        )

    def _show_tables(self, now: Content) -> None:
        rows = []
        for name, (count, digest) in self._expected.tables.items():
            found = now.tables.get(name, (0, "missing"))
            word = "equal" if found == (count, digest) else "DIFFERENT"
            rows.append((name, f"{count:>8,} rows  {digest[:12]}  {found[1][:12]}  {word}"))
        self._screen.facts(rows)

    def _check_kept(self) -> None:
        kept = [name for name in self._platform.databases() if name != DATABASE]
        if len(kept) != 1:
            raise Broken(
                f"expected one kept database beside the live one, found: {', '.join(kept) or 'none'}"
            )
        if not set(DROPPED).isdisjoint(demo_content.rows(self._stack.postgres.dsn(kept[0]))):
            raise Broken(f'"{kept[0]}" is not the damaged database')
        self._screen.ok(f'the damaged database was not touched; it is kept as "{kept[0]}"')

    def _take_figures(self) -> None:
        listed = self._shell.quietly(
            [self._program, "snapshots", "--output", "json"], self._platform.environment("write")
        )
        document = json.loads(listed.output) if listed.code == 0 else {}
        self._figures.snapshots = document.get("snapshots", [])
        if len(self._figures.snapshots) != 2:
            raise Broken("there are not two snapshots")
        first, second = self._figures.snapshots
        if second["bytes_stored"] * 4 > first["bytes_stored"]:
            raise Broken("the second backup stored far more than what changed")
        proofs = [(item["level"], item["result"]) for item in second["evidence"]]
        if ("restore", "passed") not in proofs:
            raise Broken("the repository holds no signed evidence of the proof")

    def _drctl(self, role: str, *arguments: str, expect: int = 0) -> Ran:
        """Run one drctl command with what this role has, and nothing else."""
        prefix = "".join(f"{name}={value} " for name, value in shown_environment(role).items())
        line = prefix + shlex.join(["drctl", *arguments])
        return self._shell.run(
            [self._program, *arguments], line, self._platform.environment(role), expect=expect
        )

    @property
    def _program(self) -> str:
        found = programs.installed_script("drctl")
        if found is None:
            raise Broken("the command drctl is not installed: pip install -e '.[test]'")
        return found

    @property
    def _expected(self) -> Content:
        if self._before is None:
            raise Broken("nothing was read before the disaster")
        return self._before
