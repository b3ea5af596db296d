"""What ``drctl discover`` makes of a platform: every documented form of the database's setting, and nothing secret in print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dr_toolkit import config
from dr_toolkit.config import parse
from dr_toolkit.errors import NothingToDo
from dr_toolkit.jobs import discover
from dr_toolkit.jobs.proposal import Discovery
from dr_toolkit.reporting import discovered
from tests.unit.discover.stack import (
    SECRET_VALUES,
    FakeApi,
    config_map,
    deployment,
    secret,
    stack,
)


def component(found: Discovery, name: str) -> dict[str, Any]:
    return next(c.plain() for c in found.components if c.name == name)


def console_with(
    env: list[dict[str, Any]], *, objects: dict[str, list[dict[str, Any]]] | None = None, **more: Any
) -> Discovery:
    """Discover a Console that has nothing but this environment."""
    container = {"name": "conduktor-platform", "image": "conduktor/conduktor-console", "env": env, **more}
    volumes = container.pop("volumes", None)
    served = {"deployments": [deployment("prod", "console", container, volumes=volumes)], **(objects or {})}
    return discover.run(FakeApi(served), ["prod"])


def literal(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def test_the_reference_stack_gives_a_complete_configuration_that_is_accepted() -> None:
    """Databases, TLS, bucket, releases and Secrets of the local stack are all in it."""
    found = discover.run(FakeApi(stack()), ["conduktor"])
    parsed = parse(discovered.text(found))
    assert set(parsed.components) == {"console-db", "sql-db", "cortex", "releases", "secrets"}
    assert component(found, "console-db")["connection"] == {
        "host": "main-postgresql.cdk-deps.svc.cluster.local",
        "port": 5432,
        "database": "conduktor",
        "user": "postgres",
        "password": "env:DR_CONSOLE_DB_PASSWORD",
        "sslmode": "verify-full",
        "sslrootcert": "/etc/drctl/console-db-ca.crt",
    }
    assert (
        component(found, "sql-db")["connection"]["user"] == "postgres"
    )  # the environment wins over the file
    assert component(found, "cortex")["url"] == "s3://conduktor-monitoring"
    assert component(found, "cortex")["s3"] == {
        "endpoint": "http://s3-minio.cdk-deps.svc.cluster.local:9000",
        "access_key_id": "env:DR_CORTEX_ACCESS_KEY_ID",
        "secret_access_key": "env:DR_CORTEX_SECRET_ACCESS_KEY",
    }
    assert component(found, "releases")["namespaces"] == ["conduktor"]


def test_what_was_not_found_is_named() -> None:
    """The SQL database's server shows no StatefulSet with a certificate here."""
    found = discover.run(FakeApi(stack()), ["conduktor"])
    assert any(line.startswith("sql-db: whether the server has TLS") for line in found.all_missing)
    assert "NOT FOUND" in discovered.text(found)


def test_no_secret_value_is_printed() -> None:
    """Neither in the configuration nor in the JSON document."""
    found = discover.run(FakeApi(stack()), ["conduktor"])
    printed = discovered.text(found) + json.dumps(discovered.document(found)) + repr(found)
    assert not [value for value in SECRET_VALUES.values() if value in printed]


def test_gateways_topics_are_named_as_unprotected() -> None:
    """Under the names that its environment gives them."""
    found = discover.run(FakeApi(stack()), ["conduktor"])
    assert "our_acls" in found.topics
    assert "_conduktor_gateway_encryption_keys" in found.topics
    assert len(found.topics) == 12
    assert "NOT PROTECTED" in discovered.text(found)


def test_secrets_that_nothing_would_make_again_are_proposed() -> None:
    """The pool key and the truststore by hand; not a truststore that cert-manager owns."""
    objects = stack()
    assert set(component(discover.run(FakeApi(objects), ["conduktor"]), "secrets")["include_values"]) == {
        "bundle-truststore",
        "gateway-secrets/GATEWAY_USER_POOL_SECRET_KEY",
    }
    objects["secrets"] = [
        secret("conduktor", "bundle-truststore", {}, ownerReferences=[{"kind": "Certificate"}]),
        *(s for s in objects["secrets"] if s["metadata"]["name"] != "bundle-truststore"),
    ]
    proposed = component(discover.run(FakeApi(objects), ["conduktor"]), "secrets")["include_values"]
    assert "bundle-truststore" not in proposed


def test_the_authority_of_the_reference_stack_is_proposed_where_it_is() -> None:
    """Its namespace joins those of the Secrets, and of nothing else."""
    objects = stack()
    objects["secrets"].append(secret("cert-manager", "root-ca-secret", {"tls.key": "x"}))
    found = discover.run(FakeApi(objects), ["conduktor"])
    assert "root-ca-secret" in component(found, "secrets")["include_values"]
    assert component(found, "secrets")["namespaces"] == ["conduktor", "cert-manager"]
    assert component(found, "releases")["namespaces"] == ["conduktor"]


def test_a_secret_that_may_not_be_read_is_named_with_the_missing_rule() -> None:
    """And the configuration is still one that is accepted."""
    found = discover.run(FakeApi(stack(), frozenset({"secrets/console-secrets"})), ["conduktor"])
    parse(discovered.text(found))
    assert any('resources: ["secrets"]' in line for line in found.all_missing)
    assert component(found, "console-db")["connection"]["user"] == "not-found"


def test_an_empty_cluster_is_no_success() -> None:
    """Success on nothing is a trap."""
    with pytest.raises(NothingToDo):
        discover.run(FakeApi({}), [])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param(
            {"CDK_DATABASE_URL": "postgresql://u@h:5433/db"},
            {"host": "h", "port": 5433, "database": "db", "user": "u"},
            id="url",
        ),
        pytest.param(
            {"CDK_DATABASE_URL": "jdbc:postgresql://h1:1,h2:2/db?user=u&targetServerType=primary"},
            {"hosts": ["h1:1", "h2:2"], "database": "db", "user": "u"},
            id="jdbc-several-hosts",
        ),
        pytest.param(
            {"CDK_DATABASE_URL": "postgresql://u:canary-in-url@h/db"},
            {"url": "env:DR_CONSOLE_DB_URL"},
            id="password-in-the-url",
        ),
        pytest.param(
            {"CDK_DATABASE_URL": "postgresql://u:canary-in-url@h/db", "CDK_DATABASE_USERNAME": "other"},
            {"url": "env:DR_CONSOLE_DB_URL", "user": "other"},
            id="fields-beside-the-url-win",
        ),
        pytest.param(
            {
                "CDK_DATABASE_URL": "postgresql://u:canary-in-url@h/db",
                "CDK_DATABASE_HOST": "winner",
                "CDK_DATABASE_PASSWORD": "canary-own",
            },
            {
                "host": "winner",
                "port": 5432,
                "database": "db",
                "user": "u",
                "password": "env:DR_CONSOLE_DB_PASSWORD",
            },
            id="host-and-password-beside-the-url-win",
        ),
        pytest.param(
            {
                "CDK_DATABASE_HOSTS_0_HOST": "a",
                "CDK_DATABASE_HOSTS_0_PORT": "1",
                "CDK_DATABASE_HOSTS_1_HOST": "b",
                "CDK_DATABASE_NAME": "db",
                "CDK_DATABASE_USERNAME": "u",
            },
            {"hosts": ["a:1", "b:5432"], "database": "db", "user": "u"},
            id="list-of-hosts",
        ),
        pytest.param(
            {
                "CDK_DATABASE_HOST": "h",
                "CDK_DATABASE_PORT": "6000",
                "CDK_DATABASE_NAME": "db",
                "CDK_DATABASE_USERNAME": "u",
            },
            {"host": "h", "port": 6000, "database": "db", "user": "u"},
            id="deprecated-host-and-port",
        ),
        pytest.param(
            {"CDK_DATABASE_URL": "postgresql://u@h/db?sslmode=require"},
            {"host": "h", "port": 5432, "database": "db", "user": "u", "sslmode": "require"},
            id="tls-in-the-url",
        ),
    ],
)
def test_every_form_of_the_databases_setting(environment: dict[str, str], expected: dict[str, Any]) -> None:
    """Each documented form gives the connection that Console would use."""
    found = console_with([literal(name, value) for name, value in environment.items()])
    connection = component(found, "console-db")["connection"]
    if "sslmode" not in expected:
        assert connection.pop("sslmode") == "prefer"
    assert connection == expected
    printed = discovered.text(found)
    parse(printed)
    assert "canary" not in printed


def test_explicit_variables_win_over_envfrom_and_the_last_envfrom_wins() -> None:
    """Kubernetes' own order."""
    maps = {
        "configmaps": [
            config_map("prod", "first", {"CDK_DATABASE_HOST": "first", "CDK_DATABASE_NAME": "first"}),
            config_map("prod", "second", {"CDK_DATABASE_HOST": "second", "CDK_DATABASE_USERNAME": "second"}),
        ]
    }
    found = console_with(
        [literal("CDK_DATABASE_USERNAME", "explicit")],
        objects=maps,
        envFrom=[{"configMapRef": {"name": "first"}}, {"configMapRef": {"name": "second"}}],
    )
    connection = component(found, "console-db")["connection"]
    assert (connection["host"], connection["database"], connection["user"]) == ("second", "first", "explicit")


def test_files_in_place_of_variables_are_read_where_they_are_mounted() -> None:
    """``CDK_X_FILE`` from a Secret's volume, ``CDK_ENV_FILE`` from a ConfigMap's."""
    objects = {
        "secrets": [secret("prod", "creds", {"user": "from-file\n", "pw": "canary-file"})],
        "configmaps": [
            config_map("prod", "envs", {"e": "export CDK_DATABASE_NAME='db'\nCDK_DATABASE_HOST=h\n# no\n"})
        ],
    }
    found = console_with(
        [
            literal("CDK_DATABASE_USERNAME_FILE", "/run/creds/name"),
            literal("CDK_DATABASE_PASSWORD_FILE", "/run/creds/pw"),
            literal("CDK_ENV_FILE", "/run/envs/e"),
        ],
        objects=objects,
        volumeMounts=[{"name": "c", "mountPath": "/run/creds"}, {"name": "e", "mountPath": "/run/envs/"}],
        volumes=[
            {
                "name": "c",
                "secret": {
                    "secretName": "creds",
                    "items": [{"key": "user", "path": "name"}, {"key": "pw", "path": "pw"}],
                },
            },
            {"name": "e", "projected": {"sources": [{"configMap": {"name": "envs"}}]}},
        ],
    )
    connection = component(found, "console-db")["connection"]
    assert (connection["host"], connection["database"], connection["user"]) == ("h", "db", "from-file")
    assert [c.secret_ref for c in found.credentials] == [{"namespace": "prod", "name": "creds", "key": "pw"}]


@pytest.mark.parametrize("spelling", ["kafkasql", "kafka_sql", "kafka-sql", "kafkaSql"])
def test_the_files_keys_in_every_spelling(spelling: str) -> None:
    """Camel case, hyphens, underscores: the same setting."""
    text = f"database: {{host: h, name: d, username: u}}\n{spelling}: {{database: {{host: s, name: d, username: '${{WHO:-deflt}}'}}}}"
    found = console_with(
        [],
        objects={"configmaps": [config_map("prod", "cm", {"platform-config.yaml": text})]},
        volumeMounts=[
            {
                "name": "v",
                "mountPath": "/conduktor/config/platform-config.yaml",
                "subPath": "platform-config.yaml",
            }
        ],
        volumes=[{"name": "v", "configMap": {"name": "cm"}}],
    )
    assert component(found, "sql-db")["connection"]["user"] == "deflt"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GCS_BUCKETNAME", "Google"),
        ("AZURE_ACCOUNTNAME", "Azure"),
        ("SWIFT_AUTHURL", "Swift"),
        ("OTHER", "the pod's own volume"),
    ],
)
def test_storages_that_are_not_protected_are_said(name: str, expected: str) -> None:
    """Metrics elsewhere than in S3 give no component and a sentence."""
    container = {
        "name": "conduktor-platform-cortex",
        "image": "x",
        "env": [literal(f"CDK_MONITORING_STORAGE_{name}", "y")],
    }
    found = discover.run(FakeApi({"deployments": [deployment("p", "cortex", container)]}), [])
    assert any(expected in line for line in found.all_missing)
    assert all(c.name != "cortex" for c in found.components)


def test_names_that_would_break_the_yaml_are_quoted_or_made_harmless() -> None:
    """A value with quotes, a colon, a line break or an escape code stays a value."""
    odd = 'a"b: {c}\n\x1b[31m'
    found = console_with(
        [
            literal("CDK_DATABASE_HOST", "h"),
            literal("CDK_DATABASE_NAME", odd),
            literal("CDK_DATABASE_USERNAME", "yes"),
        ]
    )
    printed = discovered.text(found)
    assert "\x1b" not in printed
    connection = parse(printed).components["console-db"].connection  # type: ignore[union-attr]
    assert (connection.database, connection.user) == (odd, "yes")


def test_the_proposal_speaks_the_schemas_words() -> None:
    """Every field of a proposed component is one that the configuration's schema knows."""
    assert config.schema()["properties"]["components"]
    parse(discovered.text(discover.run(FakeApi(stack()), [])))
