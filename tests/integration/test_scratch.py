"""A scratch server is private, is of the right version, and is gone afterwards, whatever happens."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest

from devstack import sql
from dr_toolkit.errors import Interrupted, SourceError, TargetError
from dr_toolkit.postgres import server
from dr_toolkit.postgres.restore_plan import toc_of
from dr_toolkit.postgres.scratch import ScratchServer, clean_leftovers
from dr_toolkit.postgres.tools import server_tools
from tests.restoring import snapshot

RUN = """
    import sys, time
    from pathlib import Path
    from dr_toolkit.postgres.scratch import ScratchServer

    with ScratchServer(18, parent=Path(sys.argv[1])) as server:
        print(server.directory, (server.directory / "data/postmaster.pid").read_text().split()[0], flush=True)
        time.sleep(60)
"""


@pytest.fixture
def parent(servers_root):
    """A directory that the servers' user can enter."""
    path = servers_root / f"scratch-{os.urandom(3).hex()}"
    path.mkdir()
    path.chmod(0o755)
    return path


def query(settings, statement):
    with server.connect(settings) as connection:
        return server.query(connection, statement)


def gone(pid: int) -> bool:
    """Wait until a process has ended."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("major", [18, 17])
def test_it_is_of_the_version_that_was_asked_for(major, parent):
    """The major version decides; its programs come with it."""
    with ScratchServer(major, parent=parent) as scratch:
        assert scratch.tools.major == major
        [(version,)] = query(scratch.settings, "SELECT current_setting('server_version_num')::int / 10000")
        assert version == major
    assert list(parent.iterdir()) == []


def test_it_is_private(parent):
    """No TCP, a directory that only its user can enter, and a password even there."""
    with ScratchServer(18, parent=parent) as scratch:
        assert query(scratch.settings, "SHOW listen_addresses") == [("",)]
        assert stat.S_IMODE(scratch.directory.stat().st_mode) == 0o700
        with pytest.raises(SourceError, match="password"):
            query(replace(scratch.settings, password="wrong"), "SELECT 1")
        files = [
            path for path in scratch.directory.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20
        ]
        secret = str(scratch.settings.password).encode()
        assert not any(secret in path.read_bytes() for path in files)
        assert secret.decode() not in repr(scratch.settings)


@pytest.mark.parametrize("error", [ValueError, lambda: Interrupted(15), KeyboardInterrupt])
def test_it_is_gone_after_an_error(error, parent):
    """An error, an interruption: the server has ended and its directory is deleted."""
    with (
        pytest.raises((ValueError, Interrupted, KeyboardInterrupt)),
        ScratchServer(18, parent=parent) as scratch,
    ):
        pid = int((scratch.directory / "data/postmaster.pid").read_text().split()[0])
        raise error()
    assert gone(pid)
    assert list(parent.iterdir()) == []


def test_a_session_does_not_keep_it_alive(parent):
    """An open session is cut; it is a throw-away."""
    with ScratchServer(18, parent=parent) as scratch:
        connection = server.connect(scratch.settings)
        began = time.monotonic()
    assert time.monotonic() - began < 4
    connection.close()


def test_it_dies_with_us_and_leaves_a_trace_that_is_cleaned(parent):
    """After kill -9 the server ends by itself; the next run deletes its directory, and no other."""
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN), str(parent)], stdout=subprocess.PIPE, text=True
    )
    with run, ScratchServer(18, parent=parent) as mine:
        assert run.stdout is not None
        directory, pid = run.stdout.readline().split()
        assert clean_leftovers(parent) == []
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert gone(int(pid))
        assert Path(directory).exists()
        assert clean_leftovers(parent) == [directory]
        assert not Path(directory).exists()
        assert query(mine.settings, "SELECT 1") == [(1,)]


def test_a_server_that_outlived_its_run_is_ended(parent, monkeypatch):
    """Where the system does not end it with us, the next run does; a stranger of that number is left alone."""
    scratch = ScratchServer(18, parent=parent)
    scratch.__enter__()
    try:
        pid = int((scratch.directory / "data/postmaster.pid").read_text().split()[0])
        assert scratch._place is not None
        scratch._place._lock.close()  # what the kernel does when we die
        assert clean_leftovers(parent) == [str(scratch.directory)]
        assert gone(pid)
    finally:
        scratch.stop()


def test_directories_of_others_are_not_touched(parent):
    """A directory of that name without our marker, or with one that is in use, stays."""
    (parent / "drctl-scratch-strange").mkdir()
    assert clean_leftovers(parent) == []
    assert (parent / "drctl-scratch-strange").exists()


def test_a_missing_version_is_named(parent):
    """Without programs of that version nothing is started, and what was found is told."""
    with pytest.raises(SourceError, match="no PostgreSQL 9 server programs"):
        ScratchServer(9, parent=parent)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to start servers as another user")
def test_programs_in_a_closed_place_are_refused_in_plain_words(parent, tmp_path):
    """Root's own directory is closed to the user that the server must run as."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    tools = server_tools(18)
    (closed / "bin").mkdir()
    for name in ("postgres", "initdb"):
        (closed / "bin" / name).write_bytes(b"")
        (closed / "bin" / name).chmod(0o755)
    scratch = ScratchServer(18, tools=replace(tools, directory=str(closed / "bin")), parent=parent)
    with pytest.raises(TargetError, match="who cannot enter") as caught, scratch:
        pass
    assert "install PostgreSQL where every user can read it" in str(caught.value.hint)
    assert list(parent.iterdir()) == []


def test_a_server_that_does_not_start_says_why(parent, tmp_path_factory, monkeypatch):
    """What the server said is in the error, and nothing is left."""
    monkeypatch.setitem(
        __import__("dr_toolkit.postgres.scratch", fromlist=["x"]).SETTINGS, "shared_buffers", "many"
    )
    with pytest.raises(TargetError, match="shared_buffers"), ScratchServer(18, parent=parent):
        pass
    assert list(parent.iterdir()) == []


def test_databases_have_the_sources_encoding_and_locale(postgres, new_database, parent):
    """What the snapshot records is made where it exists here."""
    name = new_database()
    toc = toc_of(snapshot(postgres, name))
    [expected] = sql.rows(
        postgres.dsn(),
        "SELECT encoding, datcollate, datlocprovider, datlocale FROM pg_database WHERE datname = %s",
        name,
    )
    with ScratchServer(18, parent=parent) as scratch:
        settings = scratch.database_for(toc)
        statement = "SELECT encoding, datcollate, datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
        assert query(settings, statement) == [expected]
        assert scratch.notes == []


def test_a_locale_that_is_missing_here_is_replaced_and_told(postgres, new_database, parent):
    """ICU is not in every build: the database gets the locale C, and a note says so."""
    toc = toc_of(snapshot(postgres, new_database()))
    entries = tuple(
        replace(
            entry,
            definition="CREATE DATABASE x WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = icu LOCALE = 'C' "
            "ICU_LOCALE = 'de-DE' TABLESPACE = elsewhere;\n",
        )
        if entry.desc == "DATABASE"
        else entry
        for entry in toc.entries
    )
    with ScratchServer(18, parent=parent) as scratch:
        settings = scratch.database_for(replace(toc, entries=entries))
        assert query(settings, "SELECT datcollate FROM pg_database WHERE datname = current_database()") == [
            ("C",)
        ]
        assert len(scratch.notes) == 1
        assert "has the locale C" in scratch.notes[0]


def test_roles_are_made_without_passwords_and_tablespaces(postgres, new_database, parent):
    """The globals' roles, their memberships and settings; what the archive names besides is made empty, and told."""
    name = new_database()
    sql.execute(postgres.dsn(name), "CREATE TABLE t (a int)")
    script = b"""
CREATE ROLE "Odd; one";
ALTER ROLE "Odd; one" WITH LOGIN PASSWORD 'SCRAM-SHA-256$secret;with';
CREATE ROLE member;
GRANT "Odd; one" TO member;
ALTER ROLE member SET work_mem TO '7MB';
ALTER ROLE member SET no.such_setting TO 'x';
ALTER ROLE member SET nonsense TO 'x';
CREATE TABLESPACE far OWNER member LOCATION '/nowhere';
GRANT ALL ON TABLESPACE far TO member;
"""
    with ScratchServer(18, parent=parent) as scratch:
        scratch.create_roles(toc_of(snapshot(postgres, name)), script)
        roles = query(
            scratch.settings, "SELECT rolname FROM pg_authid WHERE rolpassword IS NULL AND rolname !~ '^pg_'"
        )
        assert {row[0] for row in roles} >= {"Odd; one", "member", postgres.superuser}
        members = query(
            scratch.settings,
            "SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'member'::regrole",
        )
        assert members == [('"Odd; one"',)]
        assert len([note for note in scratch.notes if "nonsense" in note]) == 1
        assert f'the role "{postgres.superuser}"' in " ".join(scratch.notes)
        assert not any("TABLESPACE" in note for note in scratch.notes)
