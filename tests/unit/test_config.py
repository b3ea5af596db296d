"""What drctl.yaml may say, and how its writer is told what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from dr_toolkit import config
from dr_toolkit.config import SecretRef
from dr_toolkit.config.values import check_cron, parse_duration
from dr_toolkit.errors import ConfigError

MINIMAL = """\
version: 1
repository: {url: "file:///var/lib/drctl"}
keys:
  demo: {type: key-file, path: ./demo.key}
components:
  console-db:
    kind: postgres-dump
    connection:
      host: db
      database: conduktor
      user: drctl
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config.parse(dedent(text))
    return caught.value.problems


def minimal(old: str, new: str) -> str:
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


def test_minimal_configuration_and_its_defaults():
    """What is not written has the documented default."""
    read = config.parse(MINIMAL)
    component = read.components["console-db"]
    assert read.repository.s3 is None
    assert read.keys["demo"].role is None
    assert read.verify.scratch == "local"
    assert (component.check_source, component.schedule, component.retention) == (False, None, None)
    assert (component.connection.port, component.connection.sslmode) == (None, None)


def test_example_is_accepted_and_mentions_every_field():
    """The example that is printed is true, and complete: each field of each section is in it."""
    read = config.parse(config.example())
    assert read.components["console-db"].objectives.rpo == timedelta(hours=2)
    root = config.schema()
    sections = [root, *root["$defs"].values()]
    fields = {name for section in sections for name in section.get("properties", {})}
    assert [name for name in sorted(fields) if f"{name}:" not in config.example()] == []


def switched_on() -> str:
    """The example with what it offers as a comment."""
    lines = []
    for line in config.example().splitlines():
        bare = line.lstrip()
        offered = bare.startswith("# ") and ":" in bare.split()[1] and line.startswith(" ")
        lines.append(line.replace("# ", "", 1) if offered else line)
    text = "\n".join(lines).replace("ed25519:…", "ed25519:AAAA")
    return text.replace("      host: main-postgresql", "      # host: main").replace(
        "      hosts: [", "      # hosts: ["
    )


def test_example_with_its_comments_switched_on_is_accepted():
    """What the example offers as a comment is right as well."""
    read = config.parse(switched_on())
    assert read.components["console-db"].connection.url == "env:CDK_DATABASE_URL"
    assert read.repository.trust == "ed25519:AAAA"


def test_schema_describes_every_field():
    """The JSON Schema, which editors and the reference show, has a description of each field."""
    root = config.schema()
    bare = [
        f"{name}.{field}"
        for name, section in [("Config", root), *root["$defs"].items()]
        for field, value in section.get("properties", {}).items()
        if not value.get("description")
    ]
    assert bare == []
    json.dumps(root)


def test_all_problems_at_once_with_line_and_path():
    """Every mistake is reported in one run, by line and dotted path, unknown keys with the nearest known one."""
    text = """\
        version: 2
        repository:
          url: ftp://x
          s3: {region: 5}
        keys:
          Vault: {type: key-file, path: k}
          kms: {type: aws-kms}
          none: {path: k}
        components:
          console-db:
            kind: postgres-dump
            connection:
              host: db
              prot: 5432
              url: postgresql://db/x
              password: hunter2hunter2
            schedule: "* * *"
            objectives: {rpo: soon}
            retention: {last: 0}
            cheksource: true
          cortex:
            kind: buket
        extra: 1
    """
    found = problems(text)
    assert found == (
        "line 1: version: expected 1",
        'line 3: repository.url: expected "s3://bucket/prefix" or "file:///path"',
        "line 4: repository.s3.region: expected text; put it in quotes",
        "line 6: keys.Vault: a name has small letters, digits and hyphens, starts with a letter, and is at most 41 long",
        'line 7: keys.kms.type: unknown type "aws-kms"; known: vault, key-file',
        "line 8: keys.none.type: missing",
        "line 12: components.console-db.connection: give exactly one of host, hosts and url",
        'line 14: components.console-db.connection.prot: unknown key; did you mean "port"?',
        (
            "line 16: components.console-db.connection.password: expected a reference to a secret, not the secret: "
            '"env:NAME", "file:/path" or "vault:path#field"'
        ),
        (
            "line 17: components.console-db.schedule: expected the five fields of cron: minute, hour, day of month, month, "
            'day of week ("15 * * * *")'
        ),
        "line 18: components.console-db.objectives.rpo: expected a duration such as 2h, 30m or 1d12h",
        "line 19: components.console-db.retention: would keep nothing; give at least one number above 0",
        'line 20: components.console-db.cheksource: unknown key; did you mean "check_source"?',
        'line 22: components.cortex.kind: unknown kind "buket"; known: postgres-dump, postgres-base, bucket, helm, secrets',
        "line 23: extra: unknown key",
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1\n", "", "line 1: version: missing"),
        ("      user: drctl\n", "", "line 8: components.console-db.connection.user: missing"),
        ("      host: db\n", "", "line 8: components.console-db.connection: give exactly one of host, hosts and url"),
        ("database: conduktor", "database: 2026-01-01", "line 10: components.console-db.connection.database: expected text; put it in quotes"),
        ("host: db", "host: ''", "line 9: components.console-db.connection.host: expected text, not nothing"),
        ("host: db", "hosts: []", "line 9: components.console-db.connection.hosts: expected at least one"),
        ("host: db", "host: db\n      port: 0", "line 10: components.console-db.connection.port: input should be greater than or equal to 1"),
        ("host: db", "host: db\n      port: true", "line 10: components.console-db.connection.port: expected a whole number"),
        ("host: db", "host: db\n      sslkey: k", "line 8: components.console-db.connection: give both sslcert and sslkey, or neither"),
        ("host: db", "host: db\n      sslmode: on", "line 10: components.console-db.connection.sslmode: expected disable, allow, prefer, require, verify-ca or verify-full"),
        ("kind: postgres-dump", "kind: postgres-dump\n    check_source: maybe", "line 8: components.console-db.check_source: expected true or false"),
        ("{type: key-file, path: ./demo.key}", "text", "line 4: keys.demo: expected a mapping"),
        ("  demo: {type: key-file, path: ./demo.key}\n", "  {}\n", "line 3: keys: expected at least one"),
        ('"file:///var/lib/drctl"', '"file:///var/lib/drctl", s3: {}', "line 2: repository.s3: has no meaning for a file:// repository; remove it, or change the url"),
        ('"file:///var/lib/drctl"', '"s3://b", trust: x', 'line 2: repository.trust: expected "ed25519:…" as drctl init printed it'),
        ('"file:///var/lib/drctl"', '"s3://b", s3: {access_key_id: "env:A"}', "line 2: repository.s3: give both access_key_id and secret_access_key, or neither"),
        ("host: db", "<<: *nothing", 'line 9: not YAML that drctl reads: an alias, anchor, tag or key that means nothing here; text that starts with "*", "&" or "!" needs quotes'),
    ],
)  # fmt: skip
def test_each_problem_is_named(old, new, expected):
    """One mistake, one line that says where and what."""
    assert problems(minimal(old, new)) == (expected,)


def test_message_counts_and_names_the_file(tmp_path):
    """The error itself says how many problems there are, in which file, and that nothing was started."""
    file = tmp_path / "d.yaml"
    file.write_text("version: 2\n")
    with pytest.raises(ConfigError) as caught:
        config.load(file)
    error = caught.value
    assert (error.message, error.on) == ("the configuration has 4 problems", str(file))
    assert error.unaffected == "nothing was started"


CHOSEN = {"places", "keys", "components", "quota", "postgres", "repositories"}
"""Keys below these are names that the writer chooses."""


def mappings(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Each mapping of a document whose keys are fields, with its path."""
    if isinstance(node, dict):
        if not path or path[-1] not in CHOSEN:
            yield path, node
        for key, value in node.items():
            yield from mappings(value, (*path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from mappings(value, (*path, index))


def parts_of_the_example() -> Iterator[dict[str, Any]]:
    """The example in many small documents: each component, recipient and section with no more beside it than must be."""
    whole, small = yaml.safe_load(switched_on()), yaml.safe_load(MINIMAL)
    for part, content in whole.items():
        if part in {"components", "keys"}:
            yield from ({**small, part: {name: item}} for name, item in content.items())
        else:
            yield {**small, part: content}


def test_a_misspelt_key_is_found_with_its_line_at_every_level():
    """Every field of the example, comments included, with its last letter typed twice: its line, its path and the right name."""
    tried = 0
    for document in parts_of_the_example():
        for path, mapping in list(mappings(document)):
            for key, before in [(key, dict(mapping)) for key in mapping]:
                wrong = key + key[-1]
                mapping.clear()
                mapping.update({(wrong if k == key else k): v for k, v in before.items()})
                text = yaml.safe_dump(document, sort_keys=False, width=10_000)
                mapping.clear()
                mapping.update(before)
                line = next(
                    n for n, s in enumerate(text.splitlines(), 1) if s.lstrip(" -").startswith(f"{wrong}:")
                )
                where = ".".join(str(step) for step in (*path, wrong))
                said = problems(text)
                assert f'line {line}: {where}: unknown key; did you mean "{key}"?' in said, (where, said)
                tried += 1
    assert tried > 100


def test_duplicate_keys_are_problems_beside_all_others():
    """YAML would let the last one win in silence."""
    text = minimal("      host: db\n", "      host: db\n      host: other\n      prot: 1\n")
    assert problems(text) == (
        "line 10: components.console-db.connection.host: given twice, first in line 9",
        'line 11: components.console-db.connection.prot: unknown key; did you mean "port"?',
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("just text\n", "expected a mapping"),
        ("version: 1\n\tkeys: 2\n", "line 2: not YAML: found character '\\t' that cannot start any token"),
        ("version: [1\nkeys: 2\n", "line 2: not YAML: expected ',' or ']', but got ':'"),
        ("version: 1\n---\nversion: 1\n", 'line 2: not YAML that drctl reads: a second document ("---")'),
        ("version: 1\nkeys: \x00\n", "line 2: not YAML: a character that is not allowed"),
        ("version: 2026-13-45\n", "not YAML: a date or number that does not exist; put it in quotes"),
    ],
)
def test_what_is_not_yaml_is_said_with_its_line(text, expected):
    """A syntax error has a line and is told apart from a wrong field."""
    found = problems(text)
    assert len(found) == 1
    assert found[0].endswith(expected)


@pytest.mark.parametrize(
    "password", ["CANARY-8f2", "*CANARY-8f2", "!CANARY-8f2", "&CANARY-8f2 x", "[CANARY-8f2]", "{CANARY-8f2: 1}", "env:CANARY-8f2 x", "12345678"]
)  # fmt: skip
def test_a_literal_password_is_refused_and_not_repeated(password):
    """Whatever a password looks like to YAML, no error repeats it."""
    text = minimal("host: db", f"host: db\n      password: {password}")
    with pytest.raises(ConfigError) as caught:
        config.parse(text)
    shown = repr(caught.value) + str(caught.value.problems)
    assert "CANARY-8f2" not in shown
    assert "12345678" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:CANARY-8f2@db/x",
        "jdbc:postgresql://db/x?user=u&password=CANARY-8f2",
        "mysql://u:CANARY-8f2@db/x",
    ],
)
def test_a_url_with_a_password_is_refused_and_not_repeated(url):
    """A password may be inside a URL only behind a reference."""
    with pytest.raises(ConfigError) as caught:
        config.parse(minimal("host: db", f"url: {url}"))
    assert "CANARY" not in repr(caught.value) + str(caught.value.problems)
    assert caught.value.problems[0].startswith("line 9: components.console-db.connection.url: ")


def test_url_alone_is_enough_and_may_be_a_reference():
    """A URL says itself where to and as whom."""
    for url in (
        "postgresql://u@db/x",
        "jdbc:postgresql://db:5432/x",
        "env:CDK_DATABASE_URL",
        "file:/run/url",
    ):
        text = minimal("host: db\n      database: conduktor\n      user: drctl", f'url: "{url}"')
        found = config.parse(text).components["console-db"].connection.url
        assert found == url
        assert isinstance(found, SecretRef) == url.startswith(("env:", "file:"))


def test_roles_need_wrapping_keys_of_their_own():
    """Two roles on one Transit key would let the backup's credential unwrap everything."""
    vault = '{type: vault, role: %s, address: "https://v:8200", transit_key: k, auth: {method: token, token: "env:T"}}'
    text = minimal("{type: key-file, path: ./demo.key}", vault % "write" + "\n  second: " + vault % "read")
    assert problems(text) == (
        "line 3: keys: demo and second wrap with the same key but have different roles; give each role a key of its own",
    )


def restore_connection(connection: str, restore: str) -> dict[str, object]:
    text = minimal(
        "connection:\n      host: db\n      database: conduktor\n      user: drctl\n",
        f"connection: {connection}\n    restore_connection: {restore}\n",
    )
    return config.parse(text).components["console-db"].connection_for_restore().given()


def test_restore_connection_changes_what_it_names():
    """Another role on the same server: everything else stays."""
    base = '{host: db, port: 5433, database: d, user: u, password: "env:A", sslmode: require}'
    assert restore_connection(base, '{user: r, password: "env:B"}') == {
        "host": "db", "port": 5433, "database": "d", "user": "r", "password": "env:B", "sslmode": "require",
    }  # fmt: skip


def test_restore_connection_to_another_server_drops_the_old_place():
    """The port of the old server is not the new one's."""
    base = "{hosts: [a, b], port: 5433, database: d, user: u}"
    assert restore_connection(base, "{host: new}") == {"host": "new", "database": "d", "user": "u"}


def test_restore_url_replaces_who_and_where():
    """Fields beside a URL win over it, so those of the old connection must not stay."""
    base = '{host: db, database: d, user: u, password: "env:A", sslmode: require}'
    assert restore_connection(base, '{url: "env:ADMIN_URL"}') == {
        "url": "env:ADMIN_URL",
        "sslmode": "require",
    }


def test_restore_connection_that_does_not_fit_is_a_problem():
    """What restore would need and cannot find is said now, not during the incident."""
    text = minimal(
        "host: db\n      database: conduktor\n      user: drctl\n",
        'url: "env:U"\n    restore_connection: {host: new}\n',
    )
    assert problems(text) == (
        "line 10: components.console-db.restore_connection: does not fit the connection that it changes: database, user missing",
    )


def test_no_restore_connection_means_the_same_connection():
    """Restore uses the backup's connection unless told otherwise."""
    component = config.parse(MINIMAL).components["console-db"]
    assert component.connection_for_restore() is component.connection


def test_relative_paths_count_from_the_configuration(tmp_path, monkeypatch):
    """The tool may be started anywhere."""
    (tmp_path / "drctl.yaml").write_text(minimal("host: db", "host: db\n      sslrootcert: system"))
    monkeypatch.chdir("/")
    read = config.load(tmp_path / "drctl.yaml")
    assert read.keys["demo"].path == str(tmp_path / "demo.key")
    assert read.components["console-db"].connection.sslrootcert == "system"


def test_configuration_is_found_in_the_documented_order(tmp_path, monkeypatch):
    """The option, the variable, the working directory, in this order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dr_toolkit.config.loading.SEARCHED", (Path("drctl.yaml"), tmp_path / "etc.yaml"))
    monkeypatch.delenv("DRCTL_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"no configuration: looked for drctl\.yaml and"):
        config.find(None)
    (tmp_path / "etc.yaml").write_text("")
    assert config.find(None) == tmp_path / "etc.yaml"
    (tmp_path / "drctl.yaml").write_text("")
    assert config.find(None) == Path("drctl.yaml")
    monkeypatch.setenv("DRCTL_CONFIG", "/from/variable")
    assert config.find(None) == Path("/from/variable")
    assert config.find(Path("/from/option")) == Path("/from/option")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot be read: No such file"), (b"\xff", "not UTF-8"), (b"#" * (1 << 21), "larger than")],
)
def test_unreadable_file(tmp_path, content, expected):
    """A file that cannot be used is a configuration error that names it."""
    file = tmp_path / "drctl.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        config.load(file)
    assert caught.value.on == str(file)


def test_configuration_is_frozen():
    """What was checked stays as it was checked."""
    read = config.parse(MINIMAL)
    with pytest.raises(ValueError, match="frozen"):
        read.repository.url = "x"


def test_merge_keys_and_aliases_work():
    """YAML's own way to share a section is understood, and its lines are found."""
    text = """\
        version: 1
        repository: {url: "s3://b"}
        keys: {demo: {type: key-file, path: k}}
        components:
          a: {kind: postgres-dump, connection: &c {host: h, database: d, user: u}}
          b:
            kind: postgres-dump
            connection:
              <<: *c
              database: e
    """
    read = config.parse(dedent(text))
    assert read.components["b"].connection.given() == {"host": "h", "database": "e", "user": "u"}
    assert problems(text.replace("database: e", "datbase: e")) == (
        'line 10: components.b.connection.datbase: unknown key; did you mean "database"?',
    )


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("30m", 1800), ("1d12h", 129_600), ("45s", 45), ("90m", 5400)]
)
def test_durations(text, seconds):
    """Days, hours, minutes, seconds, in this order."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "0h", "2", "2 h", "h", "30m2h", "-1h", "1w", 90, None])
def test_wrong_durations(text):
    """What has no unit is not guessed at."""
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["15 * * * *", "*/5 0-6,22 1 jan-mar mon-fri", "0 0 31 12 7", "0 0 * * SUN"])
def test_cron(text):
    """The five fields as crontab knows them."""
    assert check_cron(text) == text


@pytest.mark.parametrize("text", ["", "@daily", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *",
                                  "* * * * 8", "*/0 * * * *", "5-1 * * * *", "1-2-3 * * * *", "a * * * *", ", * * * *", "-1 * * * *", "1/ * * * *"])  # fmt: skip
def test_wrong_cron(text):
    """A schedule that would never run is refused now."""
    with pytest.raises(ValueError):
        check_cron(text)
