"""Connection settings: every form that Console's deployments use, and no password anywhere it can be seen."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from dr_toolkit.errors import ConfigError
from dr_toolkit.postgres.connection import ConnectionSettings, credentials, resolve

PASSWORD = r"p:a\ss w@rd/%é"


def settings(**fields) -> ConnectionSettings:
    return resolve(**{"host": "db", "database": "conduktor", "user": "backup", **fields})


def test_host_and_port_are_enough():
    """The plainest form: host, database, user; the port is PostgreSQL's."""
    found = settings()
    assert found.hosts == (("db", 5432),)
    assert (found.database, found.user, found.sslmode, found.target_session_attrs) == (
        "conduktor",
        "backup",
        "prefer",
        "any",
    )


def test_several_hosts_with_and_without_ports():
    """A host may bring its own port; IPv6 addresses are in brackets, or bare without a port."""
    found = settings(host=None, hosts=["a", "b:6432", "[::1]:7", "fe80::1"], port=5433)
    assert found.hosts == (("a", 5433), ("b", 6432), ("::1", 7), ("fe80::1", 5433))


@pytest.mark.parametrize("prefix", ["postgresql://", "postgres://", "jdbc:postgresql://"])
@pytest.mark.parametrize(
    ("rest", "hosts", "database", "user", "password"),
    [
        ("u:p@h:1/d", (("h", 1),), "d", "u", "p"),
        ("u:p@h/d", (("h", 5432),), "d", "u", "p"),
        ("h/d?user=u&password=p", (("h", 5432),), "d", "u", "p"),
        ("h1:5432,h2:5433/d?user=u", (("h1", 5432), ("h2", 5433)), "d", "u", None),
        ("u@h1,h2:2/d", (("h1", 5432), ("h2", 2)), "d", "u", None),
        ("u:p%40%3A%2F%25@h/d%20x", (("h", 5432),), "d x", "u", "p@:/%"),
        ("u@[::1]:7/d", (("::1", 7),), "d", "u", None),
        ("u@%2Fvar%2Frun/d", (("/var/run", 5432),), "d", "u", None),
        ("u@/d", (("localhost", 5432),), "d", "u", None),
        ("wrong:wrong@h/d?user=u&password=p", (("h", 5432),), "d", "u", "p"),
    ],
)
def test_urls(prefix, rest, hosts, database, user, password):
    """Every form of URL that Console documents is understood, with and without ``jdbc:``."""
    found = resolve(url=prefix + rest)
    assert (found.hosts, found.database, found.user, found.password) == (hosts, database, user, password)


@pytest.mark.parametrize(
    "url", ["jdbc:postgresql:d?user=u", "jdbc:postgresql:/d?user=u", "jdbc:postgresql:///d?user=u"]
)
def test_jdbc_urls_without_a_host(url):
    """The JDBC driver takes URLs without a host as localhost."""
    found = resolve(url=url)
    assert (found.hosts, found.database) == ((("localhost", 5432),), "d")


def test_fields_win_over_the_url():
    """If both are given the decomposed fields win, as in Console."""
    found = resolve(
        url="jdbc:postgresql://u:p@h1:1,h2:2/d?sslmode=require&sslrootcert=/url.crt",
        host="mine",
        port=9,
        database="other",
        user="me",
        password="secret",
        sslmode="verify-full",
        sslrootcert="/ca.crt",
    )
    assert found.hosts == (("mine", 9),)
    assert (found.database, found.user, found.password) == ("other", "me", "secret")
    assert (found.sslmode, found.sslrootcert) == ("verify-full", "/ca.crt")


def test_a_password_in_a_url_is_not_shown():
    """It works without advice: a configuration takes such a URL behind a reference only, which is as good as the password's own."""
    found = resolve(url="postgresql://u:s3cr3t@h/d")
    assert (found.password, found.warnings) == ("s3cr3t", ())
    assert "s3cr3t" not in repr(found) + str(found.warnings) + found.redacted()


@pytest.mark.parametrize(
    ("jdbc", "libpq"),
    [
        ("any", "any"),
        ("primary", "primary"),
        ("master", "primary"),
        ("secondary", "standby"),
        ("slave", "standby"),
        ("preferSecondary", "prefer-standby"),
        ("preferSlave", "prefer-standby"),
    ],
)
def test_target_server_type(jdbc, libpq):
    """JDBC's choice among several hosts is translated to libpq's."""
    found = resolve(url=f"jdbc:postgresql://a,b/d?user=u&targetServerType={jdbc}")
    assert (found.target_session_attrs, found.warnings) == (libpq, ())


@pytest.mark.parametrize(
    ("query", "mode"),
    [
        ("", "prefer"),
        ("&sslmode=verify-ca", "verify-ca"),
        ("&ssl=true", "verify-full"),
        ("&ssl", "verify-full"),
        ("&ssl=false", "prefer"),
        ("&ssl=true&sslmode=require", "require"),
        ("&ssl=true&sslfactory=org.postgresql.ssl.NonValidatingFactory", "require"),
    ],
)
def test_tls_modes(query, mode):
    """The JDBC driver's ways to ask for TLS become libpq's."""
    assert resolve(url=f"jdbc:postgresql://a/d?user=u{query}").sslmode == mode


def test_tls_files_and_options_from_the_url():
    """Parameters of a URL that are libpq's own are kept; Java's that change nothing are dropped in silence, others with a warning."""
    found = resolve(
        url="jdbc:postgresql://a/d?user=u&sslcert=/c.crt&sslkey=/c.key&sslrootcert=/ca&connectTimeout=7&options=-c%20x%3D1"
        "&keepalives_idle=30&ApplicationName=console&reWriteBatchedInserts=true&somethingNew=1"
    )
    assert (found.sslcert, found.sslkey, found.sslrootcert, found.connect_timeout) == (
        "/c.crt",
        "/c.key",
        "/ca",
        7,
    )
    assert found.options == {"options": "-c x=1", "keepalives_idle": "30"}
    assert len(found.warnings) == 1
    assert "somethingNew" in found.warnings[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"host": None}, "no host"),
        ({"database": None}, "no database"),
        ({"user": None}, "no user"),
        ({"sslmode": "yes"}, "sslmode"),
        ({"password": "a\nb"}, "line break"),
        ({"host": "h:99999"}, "port"),
        ({"host": "h:x"}, "port"),
        ({"host": None, "url": "mysql://h/d"}, "postgresql://"),
        ({"host": None, "url": "postgresql://h:99999/d"}, "port"),
    ],
)
def test_impossible_settings_are_refused(fields, said):
    """What cannot work is refused before anything starts, and named."""
    with pytest.raises(ConfigError) as caught:
        settings(**fields)
    assert said in caught.value.message


def test_all_problems_are_reported_at_once():
    """Nobody likes to mend a configuration one error at a time."""
    with pytest.raises(ConfigError) as caught:
        resolve(sslmode="maybe")
    assert len(caught.value.problems) == 4


def test_password_goes_by_a_private_file_only():
    """The password is in a file that only this user can read, in a directory likewise, gone afterwards; not in a variable."""
    with credentials(settings(password=PASSWORD)) as env:
        path = Path(env["PGPASSFILE"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not stat.S_IMODE(path.parent.stat().st_mode) & 0o077
        assert path.read_text() == "*:*:*:*:p\\:a\\\\ss w@rd/%é\n"
        assert not any(PASSWORD in value for value in env.values())
    assert not path.exists()


def test_the_file_is_removed_after_an_error():
    """Whatever happens, no password stays behind."""
    with pytest.raises(RuntimeError), credentials(settings(password="x")) as env:
        path = Path(env["PGPASSFILE"])
        raise RuntimeError
    assert not path.exists()


def test_the_environment_is_minimal(monkeypatch):
    """A variable of the caller cannot change where a program connects, or in which language it speaks."""
    for name in ("PGPASSWORD", "PGSERVICE", "PGHOSTADDR", "LC_ALL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "from outside")
    with credentials(settings(sslmode="verify-full", sslrootcert="/ca", sslcert="/c", sslkey="/k")) as env:
        assert "from outside" not in env.values()
        assert "PGPASSFILE" not in env
        assert {name: value for name, value in env.items() if name.startswith("PG")} == {
            "PGHOST": "db",
            "PGPORT": "5432",
            "PGDATABASE": "conduktor",
            "PGUSER": "backup",
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": "/ca",
            "PGSSLCERT": "/c",
            "PGSSLKEY": "/k",
            "PGTARGETSESSIONATTRS": "any",
            "PGCONNECT_TIMEOUT": "15",
            "PGAPPNAME": "drctl",
        }
        assert env["LC_ALL"] == "C"


def test_parameters_without_a_variable_go_by_a_service_file():
    """What libpq takes from no variable, a key's passphrase for example, is in a private file too."""
    found = resolve(url="postgresql://u@h/d?sslpassword=hidden&keepalives_idle=9&gssencmode=disable")
    assert "hidden" not in repr(found)
    with credentials(found) as env:
        path = Path(env["PGSERVICEFILE"])
        assert path.read_text() == "[drctl]\nsslpassword=hidden\nkeepalives_idle=9\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert env["PGGSSENCMODE"] == "disable"
        assert "hidden" not in env.values()


def test_another_database_on_the_same_server():
    """Restore goes to another database with the same role and host."""
    found = settings(password="x").for_database("other name")
    assert (found.database, found.password) == ("other name", "x")
    assert found.redacted() == "postgresql://backup@db:5432/other name"
