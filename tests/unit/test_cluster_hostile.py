"""What somebody who may write one release or one ConfigMap can do to who backs it up, shows it or restores it: nothing."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
import yaml

from dr_toolkit.cli.context import say
from dr_toolkit.cluster import helm_storage, release_files, releases, yaml_text
from dr_toolkit.cluster.redaction import Redactor
from tests.fakes import MemorySink

GOOD = {
    "name": "gateway",
    "namespace": "n",
    "version": 1,
    "info": {"status": "deployed"},
    "chart": {"metadata": {"name": "c", "version": "1"}, "templates": [{"name": "templates/a", "data": ""}]},
    "manifest": "",
}


def stored(text):
    """A storage object with this JSON."""
    packed = base64.b64encode(base64.b64encode(gzip.compress(text.encode()))).decode()
    labels = {"owner": "helm", "name": "gateway", "version": "9" * 63, "status": "deployed"}
    metadata = {"name": "sh.helm.release.v1.gateway.v1", "labels": labels}
    return {"metadata": metadata, "type": "helm.sh/release.v1", "data": {"release": packed}}


def taken(text):
    """The entry that a backup makes of it."""
    sink, done = MemorySink(), releases.Taken()
    releases._revision(sink, "n/releases/secrets/x", "secrets", stored(text), done)
    (entry,) = sink.entries.values()
    return entry, done.broken


def with_config(config):
    return json.dumps(GOOD)[:-1] + f', "config": {config}}}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (json.dumps(GOOD | {"name": "../../evil"}), "none that a release can have"),
        (json.dumps(GOOD | {"name": "a\0b"}), "none that a release can have"),
        (json.dumps(GOOD | {"name": "a" * 254}), "none that a release can have"),
        (json.dumps(GOOD).replace('"version": 1', '"version": ' + "9" * 60), "no number that Helm counts"),
        (with_config('{"a": ' + "[" * 5000 + "]" * 5000 + "}"), "nested too deeply"),
        (with_config('{"a": ' + "[" * 300 + "]" * 300 + "}"), "nested too deeply"),
        (with_config('{"a": ' + "[[]," * 120 + "1" + "]" * 120 + "}"), "nested too deeply"),
        (with_config("[]"), "no map"),
        (json.dumps(GOOD | {"hooks": 5}), "no release"),
        (json.dumps(GOOD | {"chart": {"metadata": {"name": "c"}, "templates": [5]}}), "no release"),
    ],
)
def test_a_release_that_helm_cannot_have_written_is_kept_as_broken(text, why):
    """Its content is kept, a sentence says why, and the backup goes on; its name never becomes a directory."""
    entry, broken = taken(text)
    assert entry.kind == releases.BROKEN
    assert why in broken[0]
    assert helm_storage.document(bytes(entry.content)) == text.encode()
    with pytest.raises(helm_storage.Broken):
        helm_storage.parse(text.encode())


def test_facts_of_any_length_fit_a_snapshot():
    """The content is whole; what the catalog says of it is cut."""
    text = json.dumps(GOOD | {"chart": {"metadata": {"name": "c", "appVersion": "9" * 200_000}}})
    entry, broken = taken(text)
    assert (entry.kind, broken, bytes(entry.content)) == (releases.RELEASE, [], text.encode())
    assert len(entry.meta["app_version"]) == 1000


def test_brackets_within_texts_are_no_levels():
    """Templates are full of braces."""
    text = json.dumps(GOOD | {"config": {"t": '{{[["\\' * 500, "list": [[1], [2]] * 100}})
    assert helm_storage.parse(text.encode())["config"]["list"] == [[1], [2]] * 100


@pytest.mark.parametrize("name", ["../x", "/x", "a\0b", "é" * 200, "a/" * 1500 + "b", "Chart.yaml/x", ""])
def test_a_chart_with_names_that_are_no_files_is_not_rebuilt(name):
    """The other files of the release are written all the same."""
    chart = GOOD["chart"] | {"files": [{"name": name, "data": ""}]}
    made = release_files.files(GOOD | {"chart": chart}, driver="secrets", repositories={}, origin="o")
    assert not [one for one in made if one.startswith("chart/")]
    assert {"release.json", "restore.sh"} <= set(made)


BOMB = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [*{before}, *{before}]\n" for before, after in zip("abcdefghijklmnopqrstuvwxy"[:-1], "bcdefghijklmnopqrstuvwxy", strict=True)
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "- " * 5000 + "x", "? " * 3000 + "x", "".join(" " * n + "a:\n" for n in range(300)), BOMB,
     "a: 2026-13-45", "a: " + "9" * 5000],
    ids=["flow", "list", "keys", "maps", "aliases", "date", "number"],
)  # fmt: skip
def test_yaml_that_breaks_its_reader_is_not_read(text):
    """Not a crash of the interpreter, not an hour: the value is shown line by line, with what looks secret hidden."""
    with pytest.raises(yaml.YAMLError):
        yaml_text.load(text)
    redactor = Redactor()
    shown = redactor.document({"file": f"{text}\npassword: of-the-file\n"})
    assert "of-the-file" not in shown["file"]
    assert (
        redactor.manifest(f"---\n{text}\n---\nkind: ConfigMap\nmetadata: {{name: c}}\n").count("ConfigMap")
        == 1
    )


def test_yaml_with_a_few_aliases_is_read():
    """People write them."""
    assert yaml_text.load("a: &x {b: 1}\nc: *x\n" + "d: [[[{}]]]\n" * 1) == {"a": {"b": 1}, "c": {"b": 1}, "d": [[[{}]]]}  # fmt: skip


def test_secrets_within_texts_are_hidden():
    """A Secret's value in a sentence or in base64, an option of a program, a header, an assignment; the words around them stay."""
    redactor = Redactor({"value-of-a-secret", "user"})
    encoded = base64.b64encode(b"value-of-a-secret").decode()
    for text, kept in [
        ("log in as user with value-of-a-secret now", "log in as user with "),
        (f"encoded {encoded} here", "encoded "),
        ("--db-password=hunter22 --verbose", " --verbose"),
        ("run --api-key hunter22", "run --api-key "),
        ("Authorization: Bearer hunter22hunter22", "Authorization: Bearer "),
        ('required username="u" password="hunter22";', 'required username="u" password='),
    ]:
        shown = redactor.document({"field": text})["field"]
        assert kept in shown, shown
        assert not any(one in shown for one in ("hunter22", "value-of-a-secret", encoded)), shown
    for harmless in ("Basic authentication is on", "existingSecret: console-db", "--token $(TOKEN)", "password: ${PASSWORD}", "a-value-of-a-secrets"):  # fmt: skip
        assert redactor.document({"field": harmless})["field"] == harmless


def test_what_is_said_beside_the_answer_moves_no_cursor(capsys):
    """Plans and errors have names from the cluster in them."""
    say("chart \x1b[31mred\r\n")
    assert capsys.readouterr().err == "chart \\u001b[31mred\\u000d\n"
