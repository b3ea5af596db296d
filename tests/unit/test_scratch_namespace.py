"""What a scratch namespace is given, and how its state is judged: pure functions."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from dr_toolkit import config, errors
from dr_toolkit.cluster import scratch_objects, scratch_state
from dr_toolkit.cluster.scratch_objects import Order
from dr_toolkit.jobs import scratch_config

TEXT = """
version: 1
repository:
  url: s3://backups/site
  s3: {endpoint: "https://minio:9000", access_key_id: "env:S3_KEY", secret_access_key: "env:S3_SECRET"}
keys:
  writer: {type: key-file, role: write, path: /nowhere/write.key}
  reader: {type: vault, role: read, address: "https://vault:8200", transit_key: k, auth: {method: token, token: "env:VAULT"}}
components:
  console-db:
    kind: postgres-dump
    connection: {host: db, database: d, user: u, password: "env:DB_PASSWORD"}
    objectives: {rpo: 2h}
  other:
    kind: bucket
    url: s3://source
"""


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("S3_KEY", "S3_SECRET", "VAULT", "DB_PASSWORD"):
        monkeypatch.setenv(name, f"value-of-{name}")


def test_job_is_given_what_it_needs_and_no_more(variables: None) -> None:
    """One component, the read role, the repository: not the write role, not the source's password, no value in the configuration."""
    made = scratch_config.parcel(config.parse(TEXT), "console-db", directory="/etc/drctl", sidecar=True)
    text = made.files["drctl.yaml"]
    read = config.parse(text)

    assert set(read.keys) == {"reader"}
    assert set(read.components) == {"console-db"}
    assert read.verify.scratch == "sidecar"
    assert sorted(made.environment.values()) == ["value-of-S3_KEY", "value-of-S3_SECRET", "value-of-VAULT"]
    assert "value-of" not in text
    assert sorted(made.ports) == [8200, 9000]
    assert "value-of" not in repr(made)


def test_directory_cannot_be_reached_from_a_pod(variables: None) -> None:
    """It is refused before anything is made."""
    text = TEXT.replace("s3://backups/site", "file:///backups")
    lines = [line for line in text.splitlines() if "endpoint" not in line]
    with pytest.raises(errors.ConfigError, match="which no Pod can reach"):
        scratch_config.parcel(
            config.parse("\n".join(lines)), "console-db", directory="/etc/drctl", sidecar=True
        )


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "id": "abc",
        "owner": "somebody @ laptop",
        "expires": datetime(2026, 1, 1, tzinfo=UTC),
        "image": "i@sha256:1",
        "arguments": ("verify",),
        "environment": {"A": "secret-value"},
        "files": {"drctl.yaml": "x"},
        "database_image": "p@sha256:2",
    }
    return Order(**fields | changes)


def test_values_lie_in_the_secret_alone() -> None:
    """No other object has one, nor does the order show it."""
    encoded = base64.b64encode(b"secret-value").decode()
    holders = [
        body["kind"] for _, body in scratch_objects.objects(order()) if encoded in yaml.safe_dump(body)
    ]
    assert holders == ["Secret"]
    assert "secret-value" not in repr(order())


@pytest.mark.parametrize("text", ["somebody @ laptop", "-x-", "é" * 10, "x" * 100, ""])
def test_owner_fits_a_label(text: str) -> None:
    """Whatever a user or a machine is called."""
    value = scratch_objects.label_value(text)
    assert 0 < len(value) <= 63
    assert value[0].isalnum()
    assert value[-1].isalnum()


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": status}


def container(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "x"} | fields


@pytest.mark.parametrize(
    ("found", "stage", "part"),
    [
        (pod(phase="Failed", reason="Evicted", message="low on disk"), "no", "evicted: low on disk"),
        (pod(containerStatuses=[container("drctl", state={"running": {}})]), "running", ""),
        (pod(containerStatuses=[container("drctl", state={"terminated": {"exitCode": 3}})]), "done", ""),
        (
            pod(
                containerStatuses=[
                    container("drctl", state={"terminated": {"exitCode": 137, "reason": "OOMKilled"}})
                ]
            ),
            "no",
            "more than its memory",
        ),
        (
            pod(containerStatuses=[container("drctl", state={"waiting": {"reason": "InvalidImageName"}})]),
            "no",
            "cannot be pulled",
        ),
        (
            pod(containerStatuses=[container("drctl", state={"waiting": {"reason": "ErrImagePull"}})]),
            "waiting",
            "cannot be pulled",
        ),
        (
            pod(
                initContainerStatuses=[
                    container(
                        "postgres",
                        restartCount=1,
                        lastState={"terminated": {"exitCode": 1, "message": "could not look up user"}},
                    )
                ]
            ),
            "no",
            "PostgreSQL does not stay up: exit code 1, could not look up user",
        ),
        (
            {"metadata": {"deletionTimestamp": "x"}, "status": {"phase": "Running"}},
            "no",
            "deleted by somebody else",
        ),
    ],
)
def test_judgement_of_a_pod(found: dict[str, Any], stage: str, part: str) -> None:
    """What can become better is waited for; what cannot is a NO with its reason."""
    state = scratch_state.judge({}, [found], [], [])
    assert state.stage == stage
    assert part in state.reason


def test_job_past_its_deadline_is_a_no() -> None:
    """Also when its Pod is gone already."""
    condition = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    state = scratch_state.judge({"status": {"conditions": [condition]}}, [], [], [])
    assert (state.stage, state.reason) == ("no", "the work did not end in time")
