"""What is started in a rehearsal, what it is given, how it is judged: pure functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dr_toolkit import config, errors
from dr_toolkit.cluster import (
    quantities,
    rehearsal_environment,
    rehearsal_log,
    rehearsal_objects,
    rehearsal_shape,
    rehearsal_state,
    rehearsal_words,
    scratch_objects,
)
from dr_toolkit.cluster.rehearsal import Limits, Ready, Seen
from dr_toolkit.cluster.rehearsal_log import Errors
from dr_toolkit.cluster.rehearsal_state import Guest
from dr_toolkit.jobs import gate_rehearsal, rehearsal, rehearsal_target, rehearsal_verdict
from dr_toolkit.jobs.rehearsal_target import Chart, Wanted
from tests.unit.test_scratch_namespace import order

SECRETS = ("db-secret", "sasl-secret", "mail-secret", "user-secret")
MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: console-platform}
data:
  platform-config.yaml: |
    database: {host: main-postgresql, password: db-secret}
    kafkasql: {database: {host: sql-postgresql}}
    clusters: [{bootstrapServers: "kafka:9092", password: sasl-secret}]
    sso: {oauth2: [{name: keycloak}]}
    platform: {https: {cert: x}, external: {url: "https://console.example.invalid"}}
    auth: {local-users: [{email: a@b.invalid, password: user-secret}, {password: "${LATER}"}]}
  notes.txt: plain
---
apiVersion: v1
kind: Secret
metadata: {name: console-secret}
stringData: {CDK_ADMIN_EMAIL: admin@acme.invalid, CDK_ADMIN_PASSWORD: x, CDK_DATABASE_URL: y, CDK_LICENSE: z, OTHER: w}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: console-cortex, labels: {app.kubernetes.io/component: conduktor-platform-cortex}}
spec: {template: {spec: {containers: [{name: conduktor-platform-cortex, image: "conduktor/conduktor-console-cortex:1.47.0"}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: console}
spec:
  replicas: 3
  template:
    spec:
      serviceAccountName: console
      initContainers: [{name: wait, image: busybox}]
      containers:
        - name: conduktor-platform
          image: registry.example.com:5000/conduktor/conduktor-console:1.47.0@sha256:abc
          args: [run]
          securityContext: {runAsUser: 10001, readOnlyRootFilesystem: true, privileged: false}
          ports: [{name: http, containerPort: 8080}]
          envFrom: [{secretRef: {name: console-secret}}, {secretRef: {name: elsewhere}}]
          env:
            - {name: CDK_IN_CONF_FILE, value: /opt/conduktor/platform-config.yaml}
            - {name: CDK_SSL_TRUSTSTORE_PATH, value: /opt/ssl/truststore.jks}
            - {name: CDK_MONITORING_CORTEX-URL, value: "http://cortex:9009"}
            - {name: HTTPS_PROXY, value: "http://proxy:3128"}
            - {name: JAVA_TOOL_OPTIONS, value: -Xmx1g}
            - {name: MAIL_URL, value: "smtp://me:mail-secret@mail:25"}
            - {name: KEYSTORE, value: /opt/ssl/keystore.jks}
            - {name: SINGLE, valueFrom: {secretKeyRef: {name: elsewhere, key: k}}}
            - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
          startupProbe: {httpGet: {path: /x, port: http}, initialDelaySeconds: 10, periodSeconds: 10, failureThreshold: 10}
          readinessProbe: {httpGet: {path: /api/health/ready, port: http, scheme: HTTPS}}
          resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {memory: 3Gi}}
          volumeMounts:
            - {name: config, mountPath: /opt/conduktor/platform-config.yaml, subPath: platform-config.yaml}
            - {name: ssl, mountPath: /opt/ssl}
            - {name: plugins, mountPath: /opt/plugins}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - {name: config, configMap: {name: console-platform}}
        - {name: ssl, secret: {secretName: bundle-truststore}}
        - {name: plugins, persistentVolumeClaim: {claimName: plugins}}
        - {name: tmp, emptyDir: {}}
"""
URL = "postgresql://app:throw-away@10.0.0.1:5432/conduktor?sslmode=disable"


def shape() -> rehearsal_shape.Shape:
    found = rehearsal_shape.find(MANIFEST, "conduktor", "manifest of a test")
    assert found is not None
    return found


def test_console_is_found_among_everything() -> None:
    """Not Cortex, not an init container; its image with another version, without the old digest, with the registry's port."""
    found = shape()
    assert found.workload == "Deployment console"
    assert (
        rehearsal_shape.upgraded(found.image, "1.48.0")
        == "registry.example.com:5000/conduktor/conduktor-console:1.48.0"
    )
    assert rehearsal_shape.budget(found.container) == 110
    assert rehearsal_shape.resources(found.container, None, None) == ("500m", "3Gi")
    assert rehearsal_shape.resources({}, None, "4Gi") == ("1", "4Gi")
    assert rehearsal_shape.find("kind: ConfigMap\nmetadata: {name: x}\n", "n", "s") is None


def test_what_it_is_given_leads_nowhere_and_holds_no_secret() -> None:
    """Settings stay; databases, Kafka, sign-on, certificates, license and proxies go; every secret becomes a throw-away value, and the notes say what is missing."""
    given = rehearsal_environment.prepare(shape(), URL, {"CDK_LICENSE": "given"})
    text = yaml.safe_dump([dict(given.environment), dict(given.files), [dict(m) for m in given.mounts]])
    [(_name, files)] = [(name, files) for name, files in given.files.items() if files]
    kept = yaml.safe_load(files["platform-config.yaml"])

    assert [one for one in (*SECRETS, "kafka:9092", "proxy", "cortex") if one in text] == []
    assert given.environment["CDK_DATABASE_URL"] == URL
    assert given.environment["CDK_LICENSE"] == "given"
    assert given.environment["JAVA_TOOL_OPTIONS"] == "-Xmx1g"
    assert given.environment["CDK_ADMIN_EMAIL"].endswith("drctl.invalid")
    assert given.environment["SINGLE"] != given.environment["OTHER"]
    assert {"KEYSTORE", "POD", "CDK_SSL_TRUSTSTORE_PATH"} & set(given.environment) == set()
    assert kept.keys() == {"platform", "auth"}
    assert kept["platform"] == {"external": {"url": "https://console.example.invalid"}}
    assert kept["auth"]["local-users"][1] == {"password": "${LATER}"}
    assert [mount["name"] for mount in given.mounts] == ["config", "plugins", "tmp"]
    notes = "\n".join(given.notes)
    for part in (
        "Secret conduktor/elsewhere is not known",
        "nothing is mounted at /opt/ssl",
        "/opt/plugins is empty",
        "POD is not known",
        "left out: ",
        "platform-config.yaml is without clusters, database, kafkasql, platform.https, sso",
    ):
        assert part in notes
    assert "throw-away" not in repr(given)


def test_its_pod_is_one_closed_container() -> None:
    """The chart's container alone, at the restricted level, health over plain HTTP, everything that it is given in Secrets."""
    given = rehearsal_environment.prepare(shape(), URL, {})
    start = rehearsal_objects.Start("image:2", shape(), given, "1", "3Gi", 60)
    bodies = [body for _path, body in rehearsal_objects.objects(start)]
    job = bodies[-1]
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert (job["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert (container["image"], container["args"]) == ("image:2", ["run"])
    assert container["readinessProbe"]["httpGet"] == {
        "path": "/api/health/ready",
        "port": "http",
        "scheme": "HTTP",
    }
    assert "startupProbe" not in container
    assert container["securityContext"]["runAsNonRoot"] is True
    assert "serviceAccountName" not in pod
    assert URL not in yaml.safe_dump(job)
    assert URL not in repr(start)


def test_room_is_made_for_a_guest() -> None:
    """The quota counts it, the largest container may be as large, the database listens on the Pod's address; without one nothing listens."""
    with_guest = dict(scratch_objects.objects(order(guest=scratch_objects.Guest("500m", "3Gi"))))
    quota = with_guest["api/v1/resourcequotas"]["spec"]["hard"]
    job = with_guest["apis/batch/v1/jobs"]["spec"]["template"]["spec"]
    alone = yaml.safe_dump([body for _path, body in scratch_objects.objects(order())])

    assert (quota["pods"], quota["requests.cpu"], quota["limits.memory"]) == ("2", "2500m", "5Gi")
    assert with_guest["api/v1/limitranges"]["spec"]["limits"][0]["max"] == {"memory": "3Gi"}
    assert "listen_addresses=$(DRCTL_SCRATCH_LISTEN)" in job["initContainers"][0]["args"]
    assert "DRCTL_SCRATCH_LISTEN\n" not in alone
    assert quantities.total("1Gi", "500M") == str((1 << 30) + 500 * 10**6)


LINES = {
    "2026-01-01T00:00:00,123 [main] ERROR c.A - boom": ("boom", 1, 0, False),
    '{"level":"error","message":"boom","time":"x"}': ("boom", 1, 0, False),
    '{"level":"info","message":"no ERROR here"}': ("", 0, 0, False),
    "2026-01-01 INFO the level ERROR is only spoken of much later in a line that is long enough for anybody ERROR": (
        "",
        0,
        0,
        False,
    ),
    "ERROR o.a.k.NetworkClient kafka-admin: Connection to node -1 could not be established": (
        "",
        0,
        1,
        False,
    ),
    "ERROR java.net.UnknownHostException: sso.example.invalid": ("", 0, 1, False),
    "ERROR known to us": ("", 0, 1, False),
    "ERROR Migration V12__x.sql failed: kafka broker unavailable": ("Migration", 1, 0, True),
    "ERROR FlywayException: Validate failed": ("Flyway", 1, 0, True),
    "INFO Migration V12 done": ("", 0, 0, False),
}


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_lines_of_a_log(line: str) -> None:
    """By their level, in text and in JSON; what a closed network explains is counted apart, a failed migration never."""
    part, count, expected, migration = LINES[line]
    found = rehearsal_log.read([line], ["known to us"])
    assert (found.count, found.expected, bool(found.migration)) == (count, expected, migration)
    assert part in " ".join(found.lines)


def test_only_genuine_words_are_heard() -> None:
    """Under another key, or changed, a line says nothing."""
    fields = rehearsal_words.say("key", {"stage": "serving", "database": "conduktor"})
    line = f'{{"event": "rehearsal", "word": "{fields["word"]}", "code": "{fields["code"]}"}}'
    changed = line.replace(fields["code"][:4], "0000")
    assert rehearsal_words.heard("key", ["noise", line]) == [{"stage": "serving", "database": "conduktor"}]
    assert rehearsal_words.heard("key", [changed, "{}", '{"event": "rehearsal"}']) == []
    assert rehearsal_words.heard("other", [line]) == []


def pod(state: dict[str, Any], **status: Any) -> list[dict[str, Any]]:
    container = {"name": "rehearsal", "image": "image:2", "state": state, "ready": status.pop("ready", False)}
    return [{"metadata": {}, "status": {"containerStatuses": [container], **status}}]


STATES = {
    "healthy": pod({"running": {}}, ready=True),
    "running": pod({"running": {}}),
    "cannot be pulled": pod({"waiting": {"reason": "ErrImagePull", "message": "not found"}}),
    "cannot be started": pod({"waiting": {"reason": "CreateContainerConfigError"}}),
    "exit code 7": pod({"terminated": {"exitCode": 7}}),
    "more than its memory": pod({"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
    "evicted: no room": pod({"terminated": {"exitCode": 137}}, reason="Evicted", message="no room"),
    "no node takes the Pod: full": pod(
        {}, conditions=[{"type": "PodScheduled", "status": "False", "message": "full"}]
    ),
}


@pytest.mark.parametrize("words", STATES)
def test_states_of_the_guest(words: str) -> None:
    """Each in words; only what cannot become better is over."""
    found = rehearsal_state.judge({}, STATES[words], [])
    over = words in {"exit code 7", "more than its memory", "evicted: no room"}
    assert (found.stage == "over") is over
    assert words in (found.text or found.stage)


@pytest.mark.parametrize(
    ("message", "stage", "hint"),
    [
        ('violates PodSecurity "restricted:latest": runAsUser=0', "over", "securityContext"),
        ("exceeded quota: drctl", "waiting", "verify.namespace.quota"),
    ],
)
def test_a_pod_that_is_refused(message: str, stage: str, hint: str) -> None:
    """What the namespace's level forbids is over at once; a quota may get room."""
    found = rehearsal_state.judge({}, [], [{"reason": "FailedCreate", "message": message}])
    assert (found.stage, message in found.text) == (stage, True)
    assert hint in (found.hint or "")


HISTORY = {"schema": "public", "count": 1, "failed": 0, "newest": "47 alerts", "failing": ""}
WELL: dict[str, Any] = {
    "guest": Guest("healthy"),
    "histories": ({**HISTORY, "count": 2, "newest": "48 emails"},),
    "seconds": {"start": 1.0, "migrations": 2.0, "health": 3.0},
}
LIMITS = Limits(10, 60, 5)
CLEAN = Errors((), 0, 0, "")
VERDICTS: list[tuple[dict[str, Any], Errors, float | None, str]] = [
    ({}, CLEAN, 110.0, ""),
    ({"histories": ({**HISTORY, "count": 2, "failed": 1, "failing": "48 emails"},)}, CLEAN, None, "a migration failed: public: 48 emails"),
    ({}, Errors(("M",), 1, 0, "M"), None, "a migration failed: M"),
    ({}, Errors(("a", "b"), 5, 0, ""), None, "5 errors in its log: a | b"),
    ({"guest": Guest("over", "its container ended with exit code 1")}, CLEAN, None, "exit code 1"),
    ({"guest": Guest("waiting", "the image cannot be pulled"), "late": "start"}, CLEAN, None, "(waited 10 s)"),
    ({"late": "health"}, CLEAN, None, "did not answer within 60 s"),
    ({"fell": True}, CLEAN, None, "then was not any more"),
    ({"lost": "PostgreSQL ended"}, CLEAN, None, "the restored copy was not there to the end"),
    ({"histories": ()}, CLEAN, None, "the migration history in public is gone"),
    ({"seconds": {"start": 1.0, "health": 200.0}}, CLEAN, 110.0, "the chart's probes end it after 110 s"),
]  # fmt: skip


@pytest.mark.parametrize("case", VERDICTS, ids=lambda case: case[3] or "well")
def test_verdict_has_a_reason_for_everything(case: tuple[dict[str, Any], Errors, float | None, str]) -> None:
    """None where all went well; else the one that fits."""
    changes, found, budget, text = case
    reasons = rehearsal_verdict.reasons(Seen(**WELL | changes), [HISTORY], found, LIMITS, budget)
    assert bool(reasons) is bool(text)
    assert text in " ".join(reason.text for reason in reasons)


def test_migrations_in_words() -> None:
    """How many, where, and to which version; none is said as well."""
    assert rehearsal_verdict.migrated([HISTORY], WELL["histories"]) == "migrations: 1 in public, to 48 emails"
    assert rehearsal_verdict.migrated([HISTORY], [HISTORY]) == "no migration was needed"
    assert rehearsal_verdict.migrated([], []) == "no migration history was found"


def test_address_of_the_copy_is_quoted() -> None:
    """Names with signs, and an address of version 6."""
    copy = Ready("fd00::1", 5432, "my db", "a@b", ())
    assert (
        rehearsal.database_url(copy, "p/w")
        == "postgresql://a%40b:p%2Fw@[fd00::1]:5432/my%20db?sslmode=disable"
    )


TEXT = """
version: 1
repository: {url: "s3://backups/site"}
keys: {reader: {type: key-file, role: read, path: /nowhere/read.key}}
components:
  console-db: {kind: postgres-dump, connection: {host: db, database: d, user: u}}
  sql-db: {kind: postgres-dump, connection: {host: db, database: e, user: u}}
  cortex: {kind: bucket, url: "s3://source"}
platform:
  main: {kind: console, namespace: conduktor, release: console}
  gateway: {kind: gateway, namespace: conduktor}
verify: {namespace: {image: "i@sha256:%s"}}
""" % ("0" * 64)  # fmt: skip


def test_target_is_found_or_refused_at_once() -> None:
    """The only Console and its main database; what cannot be tried is said before anything begins, unless that is accepted."""
    read = config.parse(TEXT)
    found = rehearsal_target.target_of(read, Wanted("console", "1.48.0"))
    assert (found.name, found.component) == ("main", "console-db")
    assert rehearsal_target.target_of(read, Wanted(chart=Chart(Path("x")))).name == "main"
    refused = {
        "which version": (TEXT, Wanted()),
        "which of 2 components": (TEXT.replace("console-db", "db-one"), Wanted(to_version="1")),
        "no component of kind postgres-dump": (
            TEXT.replace("release: console", "release: console, rehearsal: {component: cortex}"),
            Wanted(to_version="1"),
        ),
        "a directory, which no Pod can reach": (TEXT.replace("s3://backups/site", "file:///backups"), Wanted(to_version="1")),
        "0 applications of kind console": (TEXT.replace("kind: console", "kind: gateway"), Wanted(to_version="1")),
        "verify.namespace": (TEXT.partition("verify:")[0], Wanted(to_version="1")),
    }  # fmt: skip
    for part, (text, wanted) in refused.items():
        with pytest.raises(errors.ConfigError, match=part):
            gate_rehearsal.target(config.parse(text), wanted, ())
        assert gate_rehearsal.target(config.parse(text), wanted, ("rehearsal",)) is None
    assert gate_rehearsal.target(read, None, ()) is None
