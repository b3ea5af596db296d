"""What the demo works on: the servers, their roles and tokens, and a drctl.yaml that fits them."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from devstack import data, programs, sql
from devstack.stack import Stack

DATABASE = "conduktor"
BUCKET = "dr-backups"
PREFIX = "conduktor"
KEY_FILE = "offline.key"
CONFIG = "drctl.yaml"
CONSOLE = "conduktor-console"
"""The name under which the demo's stand-in for Console connects."""

SAFE = """\
  safe:                     # for the day when Vault is lost as well
    {type: key-file, role: read, path: offline.key}
"""
YAML = """\
version: 1
repository:
  url: s3://{bucket}/{prefix}
  s3:
    endpoint: {endpoint}
    access_key_id: env:DR_S3_KEY
    secret_access_key: env:DR_S3_SECRET
keys:                       # who can unwrap the repository's keys
  vault-write:              # the backup job: adds snapshots, cannot read them
    {{type: vault, role: write, address: "{vault}",
     transit_key: drctl-write, auth: {{method: token, token: "env:VAULT_TOKEN"}}}}
  vault-read:               # people: verify, restore
    {{type: vault, role: read, address: "{vault}",
     transit_key: drctl-read, auth: {{method: token, token: "env:VAULT_TOKEN"}}}}
{safe}components:
  console-db:
    kind: postgres-dump
    connection:
      {{host: {host}, port: {port}, database: {database},
       user: {backup_role}, password: "env:DR_DB_PASSWORD"}}
    restore_connection:
      {{user: {restore_role}, password: "env:DR_RESTORE_PASSWORD"}}
"""


class Platform:
    """A Console database with the roles that drctl needs, keys in a Vault, and an empty bucket.

    Args:
        stack: running servers.
        directory: where the configuration and the key file are put.
    """

    def __init__(self, stack: Stack, directory: Path) -> None:
        self.stack = stack
        self.directory = directory
        self.dsn = ""
        self.yaml = ""
        self._passwords = {role: secrets.token_urlsafe(18) for role in (data.BACKUP_ROLE, data.RESTORE_ROLE)}
        self._tokens: dict[str, str] = {}

    def fill(self, scale: float) -> None:
        """Make the database, with content and with the roles for backup and restore.

        Args:
            scale: 1.0 is about 70 MB.
        """
        self.dsn = self.stack.postgres.create_database(DATABASE)
        data.fill_console_like(self.dsn, scale=scale)
        data.backup_role(self.dsn, self._passwords[data.BACKUP_ROLE])
        data.restore_role(self.dsn, self._passwords[data.RESTORE_ROLE])

    def make_keys(self) -> None:
        """Make two Transit keys, a token for each role, and one for ``init``."""
        bao = self.stack.bao
        for name in ("drctl-write", "drctl-read"):
            bao.make_transit(name)
        write, read = "transit/decrypt/drctl-write", "transit/decrypt/drctl-read"
        wraps = {f"transit/encrypt/drctl-{role}": ["update"] for role in ("write", "read")}
        self._tokens = {
            "init": bao.make_policy_token({**wraps, read: ["update"]}),
            "write": bao.make_policy_token({write: ["update"]}),
            "read": bao.make_policy_token({read: ["update"]}),
        }

    def configure(self) -> None:
        """Make the bucket, and write drctl.yaml."""
        self.stack.s3.create_bucket(BUCKET)
        self.yaml = YAML.format(
            bucket=BUCKET,
            prefix=PREFIX,
            endpoint=self.stack.s3.endpoint,
            vault=self.stack.bao.address,
            safe=SAFE,
            host=self.stack.postgres.host,
            port=self.stack.postgres.port,
            database=DATABASE,
            backup_role=data.BACKUP_ROLE,
            restore_role=data.RESTORE_ROLE,
        )
        if programs_for_scratch := _programs_for_scratch(self.stack):
            self.yaml += f"verify: {{programs: {programs_for_scratch}}}\n"
        self._write()

    def pin(self, trust: str) -> None:
        """Put the trust that ``init`` printed into drctl.yaml.

        Args:
            trust: ``ed25519:…``.
        """
        url = f"  url: s3://{BUCKET}/{PREFIX}\n"
        self.yaml = self.yaml.replace(url, f'{url}  trust: "{trust}"\n')
        self._write()

    def environment(self, role: str) -> dict[str, str]:
        """The whole environment of a drctl that runs in this role: nobody has more than it needs.

        Args:
            role: ``none``, ``init``, ``write`` or ``read``.
        """
        base = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": os.environ.get("HOME", "/"),
            "LC_ALL": "C.UTF-8",
        }
        base |= {name: os.environ[name] for name in ("TMPDIR",) if name in os.environ}
        if role == "none":
            return base
        base |= {"DR_S3_KEY": self.stack.s3.access_key, "DR_S3_SECRET": self.stack.s3.secret_key}
        base["VAULT_TOKEN"] = self._tokens[role]
        if role == "write":
            base["DR_DB_PASSWORD"] = self._passwords[data.BACKUP_ROLE]
        if role == "read":
            base["DR_RESTORE_PASSWORD"] = self._passwords[data.RESTORE_ROLE]
        return base

    def lock_key_away(self) -> Path:
        """Take the key file off this machine, as one should: to a directory that stands for a safe.

        Its lines leave the configuration, too: who finds it learns nothing about the safe.

        Returns:
            Where it is now.
        """
        safe = self.directory / "safe"
        safe.mkdir(mode=0o700)
        self.yaml = self.yaml.replace(SAFE, "")
        self._write()
        return (self.directory / KEY_FILE).rename(safe / KEY_FILE)

    def databases(self) -> list[str]:
        """The names of the databases that belong to somebody, in order."""
        found = sql.rows(
            self.stack.postgres.dsn(),
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1",
        )
        return [str(name) for (name,) in found]

    def copy_repository(self, target: Path) -> int:
        """Copy the bucket's objects into a directory, as any S3 client would.

        Args:
            target: the directory; made.

        Returns:
            How many objects there were.
        """
        client = self.stack.s3.client()
        count = 0
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/"):
            for item in page.get("Contents", ()):
                path = target / item["Key"].removeprefix(f"{PREFIX}/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read())
                count += 1
        client.close()
        return count

    def _write(self) -> None:
        (self.directory / CONFIG).write_text(self.yaml)


def shown_environment(role: str) -> Mapping[str, str]:
    """What a person would put before a command in this role.

    Args:
        role: as for ``Platform.environment``.
    """
    tokens = {"init": "$INIT_TOKEN", "write": "$WRITE_TOKEN", "read": "$READ_TOKEN"}
    return {"VAULT_TOKEN": tokens[role]} if role in tokens else {}


def _programs_for_scratch(stack: Stack) -> Path | None:
    """Where root's scratch server finds programs that an ordinary user can read; None where the usual place will do."""
    installed = stack.postgres.bin_dir
    if programs.unprivileged_user() is None or programs.open_to_all(installed / "postgres"):
        return None
    # devstack has made a readable copy for its own server.
    return Path(f"/proc/{stack.postgres.pid}/exe").resolve().parent
