"""The rights that docs/permissions.md names for buckets, held against policies that a server enforces: with exactly these every command works, without one of them the error names it."""

from __future__ import annotations

import json
import subprocess

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.authorization import enable_iam_authentication
from moto.iam import iam_backends

from tests.bucket_site import Site
from tests.integration.test_bucket import Moto

ALL = {"s3:*": ("*",)}
SOURCE, TARGET = "rights-source", "rights-target"
Rights = dict[str, tuple[str, ...]]


class User:
    """Somebody with keys and one policy."""

    def __init__(self, name: str) -> None:
        self._iam, self._name = iam_backends[DEFAULT_ACCOUNT_ID]["aws"], name
        self._iam.create_user("us-east-1", name)
        made = self._iam.create_access_key(name)
        self.access_key, self.secret_key = made.access_key_id, made.secret_access_key

    def may(self, rights: Rights) -> None:
        """Exactly this: actions, each with the resources that it is for."""
        statements = [
            {"Effect": "Allow", "Action": action, "Resource": [f"arn:aws:s3:::{one}" for one in resources]}
            for action, resources in rights.items()
        ]
        policy = {"Version": "2012-10-17", "Statement": statements}
        self._iam.put_user_policy(self._name, "exact", json.dumps(policy))


@pytest.fixture(scope="module")
def moto():
    server = Moto()
    yield server
    server.stop()


class RightsSite(Site):
    """A site that works as a user with a policy, within this process: these runs are many."""

    def __init__(self, root, server: Moto, user: User, admin: User, extra: str = "") -> None:
        self.user, self.admin, self.server = user, admin, server
        server.access_key, server.secret_key = user.access_key, user.secret_key
        super().__init__(root, server, SOURCE, extra=extra)
        self.client = client(server, admin)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.inside(*arguments)

    def refused(self, missing: str, *arguments: str) -> None:
        """The command fails, and says which right is missing, on what, and where rights are explained."""
        done = self.run(*arguments)
        said = done.stdout + done.stderr
        assert done.returncode in {1, 3}, (missing, said)
        assert any(f"{word} {missing}" in said for word in ("needs", "grant", "and")), (missing, said)
        assert "docs/permissions.md" in said
        assert "Traceback" not in said

    def each_is_needed(self, rights: Rights, *arguments: str) -> None:
        """Without any one of these rights the command is refused."""
        for missing, resources in rights.items():
            for resource in resources:
                kept = tuple(one for one in resources if one != resource)
                less = {name: of for name, of in rights.items() if name != missing}
                self.user.may(less | ({missing: kept} if kept else {}))
                self.refused(missing, *arguments)
        self.user.may(rights)


def client(server: Moto, user: User):
    return boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", aws_access_key_id=user.access_key, aws_secret_access_key=user.secret_key)  # fmt: skip


@pytest.fixture(scope="module")
def users(moto):
    """A user without rights, and one with all; the server looks at rights from now on."""
    user, admin = User("job"), User("admin")
    admin.may(ALL)
    with enable_iam_authentication():
        for name in (SOURCE, TARGET):
            client(moto, admin).create_bucket(Bucket=name)
        yield user, admin


@pytest.fixture
def make(tmp_path, moto, users):
    """Makes a site, whose buckets are new: three small objects in the source, nothing in the target."""
    buckets = client(moto, users[1])
    for name in (SOURCE, TARGET):
        for page in buckets.get_paginator("list_object_versions").paginate(Bucket=name):
            for one in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                buckets.delete_object(Bucket=name, Key=one["Key"], VersionId=one["VersionId"])

    def made(extra: str = "") -> RightsSite:
        site = RightsSite(tmp_path, moto, *users, extra=extra)
        for number in range(3):
            site.put(f"o{number}", b"content %d" % number, Tagging="team=data")
        return site

    return made


def test_a_backup_reads_and_lists(make):
    """Two rights on the source, and a third one for tags; nothing is written there."""
    site = make()
    rights: Rights = {"s3:ListBucket": (SOURCE,), "s3:GetObject": (f"{SOURCE}/*",)}
    site.each_is_needed(rights, "backup")
    assert site.json("snapshots")["snapshots"] == []
    assert site.backup()["entries"] == 3
    site.config.write_text(site.config.read_text().replace("kind: bucket", "kind: bucket\n    tags: true"))
    site.refused("s3:GetObjectTagging", "backup")
    site.user.may(rights | {"s3:GetObjectTagging": (f"{SOURCE}/*",)})
    assert site.backup()["entries"] == 3


def test_a_restore_lists_and_writes(make):
    """Into another bucket: no right on the source is needed, and to delete only for what is to be deleted."""
    site = make()
    site.user.may(ALL)
    site.backup()
    again = ("restore", "cortex", "--to", f"s3://{TARGET}", "--yes")
    rights: Rights = {"s3:ListBucket": (TARGET,), "s3:PutObject": (f"{TARGET}/*",)}
    site.each_is_needed(rights, *again)
    assert site.json(*again)["restored"]["objects"]["new"] == 3
    site.client.put_object(Bucket=TARGET, Key="extra", Body=b"x")
    site.refused("s3:DeleteObject", *again, "--exact")
    site.user.may(rights | {"s3:DeleteObject": (f"{TARGET}/*",)})
    site.json(*again, "--exact")
    assert site.content(TARGET) == site.content()


def test_a_replica_reads_there_and_writes_here(make):
    """Two rights on the source, four on the replica."""
    site = make(f'mode: replica\n    to: {{url: s3://{TARGET}}}\n    max_delete: "100%"')
    rights: Rights = {
        "s3:PutObject": (f"{TARGET}/*",),  # first: without the others objects arrive, and the record fails
        "s3:ListBucket": (SOURCE, TARGET),
        "s3:GetObject": (f"{SOURCE}/*", f"{TARGET}/*"),
    }
    site.each_is_needed(rights, "backup")
    site.backup()
    assert site.content(TARGET) == site.content()
    site.client.delete_object(Bucket=SOURCE, Key="o1")
    site.refused("s3:DeleteObject", "backup")
    site.user.may(rights | {"s3:DeleteObject": (f"{TARGET}/*",)})
    site.backup()
    assert site.content(TARGET) == site.content()


def test_a_proof_needs_its_scratch_buckets_alone(make):
    """Nothing on the source; everything on buckets whose names begin as is configured."""
    site = make("scratch: s3://rights-scratch")
    site.user.may(ALL)
    site.backup()
    of_bucket, of_objects = ("rights-scratch*",), ("rights-scratch*/*",)
    rights: Rights = {
        **{f"s3:{action}": of_bucket for action in ("CreateBucket", "ListBucket", "DeleteBucket")},
        **{f"s3:{action}": of_objects for action in ("PutObject", "GetObject")},
        "s3:DeleteObject": of_bucket,  # moto looks at the bucket's name when several objects are deleted
    }
    site.each_is_needed(rights, "verify", "--restore")
    (found,) = site.json("verify", "--restore")["results"]
    assert (found["result"], found["checks"]["objects"]) == ("passed", 3)


def test_versions_have_rights_of_their_own(make):
    """A bucket with versioning is read by version id. Without the right to list versions a snapshot is taken, with a warning that it is not one moment."""
    site = make()
    site.client.put_bucket_versioning(Bucket=SOURCE, VersioningConfiguration={"Status": "Enabled"})
    site.put("o1", b"newer")
    rights: Rights = {
        "s3:GetBucketVersioning": (SOURCE,),
        "s3:ListBucketVersions": (SOURCE,),
        "s3:GetObjectVersion": (f"{SOURCE}/*",),
    }
    site.user.may(rights | {"s3:GetObjectVersion": ("elsewhere/*",)})
    site.refused("s3:GetObjectVersion", "backup")
    site.user.may(rights)
    taken = site.backup()
    assert (taken["entries"], taken["warnings"]) == (3, [])
    plain: Rights = {"s3:ListBucket": (SOURCE,), "s3:GetObject": (f"{SOURCE}/*",)}
    site.user.may(plain | {"s3:GetBucketVersioning": (SOURCE,)})
    assert "s3:ListBucketVersions" in site.backup()["warnings"][0]
