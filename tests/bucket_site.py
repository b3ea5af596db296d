"""A configured drctl with one bucket, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from dr_toolkit.cli import main
from dr_toolkit.keys import key_file

DRCTL = Path(sys.executable).with_name("drctl")
HEADERS = {
    "ContentType": "application/x-block",
    "ContentEncoding": "gzip",
    "ContentDisposition": 'attachment; filename="x"',
    "ContentLanguage": "de",
    "CacheControl": "max-age=60",
    "Metadata": {"owner": "cortex"},
}


class Site:
    """A configured drctl with one bucket and a repository in a directory."""

    def __init__(
        self,
        root: Path,
        server,
        bucket: str,
        endpoint: str | None = None,
        extra: str = "",
        *,
        ca: bool = True,
        more: dict[str, str] | None = None,
    ) -> None:
        self.root, self.bucket, self.client = root, bucket, server.client()
        self.config = root / "drctl.yaml"
        self.environment = os.environ | {"KEY": server.access_key, "SECRET": server.secret_key} | (more or {})
        self.config.write_text(f"""
version: 1
repository: {{url: "file://{root}/repository"}}
keys:
  write: {{type: key-file, role: write, path: {root}/write.key}}
  read: {{type: key-file, role: read, path: {root}/read.key}}
components:
  cortex:
    kind: bucket
    url: s3://{bucket}
    s3: {{endpoint: "{endpoint or server.endpoint}", access_key_id: "env:KEY", secret_access_key: "env:SECRET"{", ca_file: " + str(server.ca_file) if getattr(server, "ca_file", None) and ca else ""}}}
    {extra}
""")
        for role in ("write", "read"):
            key_file.generate(str(root / f"{role}.key"))
        self.json("init")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As a process. What only looks at the repository runs within this one: starting Python takes longer."""
        if arguments[0] in {"init", "snapshots", "show"}:
            return self.inside(*arguments)
        return subprocess.run(
            [DRCTL, "-c", self.config, *arguments],
            env=self.environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    def inside(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same within this process."""
        out, err = StringIO(), StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            code = main.run(["-c", str(self.config), *arguments])
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def json(self, *arguments: str, code: int = 0) -> dict:
        done = self.run(*arguments, "--output", "json")
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def backup(self, *arguments: str) -> dict:
        """As a CronJob does it: the read key is away."""
        hidden = (self.root / "read.key").rename(self.root / "read.away")
        try:
            return self.json("backup", *arguments)["snapshots"][0]
        finally:
            hidden.rename(self.root / "read.key")

    def header(self, snapshot: str) -> dict:
        """What the header says about the source."""
        return self.json("show", snapshot)["source"]

    def put(self, key: str, content: bytes, **headers) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content, **headers)

    def content(self, bucket: str | None = None) -> dict[str, tuple[bytes, dict]]:
        """Everything in a bucket, with what makes an object an object."""
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.bucket):
            for item in page.get("Contents", ()):
                answer = self.client.get_object(Bucket=bucket or self.bucket, Key=item["Key"])
                kept = {name: answer.get(name) for name in (*HEADERS, "ExpiresString")}
                found[item["Key"]] = answer["Body"].read(), kept
        return found


def fill(site: Site) -> None:
    """Small ones, an empty one, one of several ranges, one of several parts, names in a hard order."""
    for number in range(40):
        site.put(f"blocks/{number:03}/index", f"index {number}".encode() * 50)
    site.put("blocks-list", b"sorts between")
    site.put("blocks/000/empty", b"")
    site.put("with space/Grüße+%25", b"name")
    site.put("all-headers", b"headers", **HEADERS, Expires="Wed, 21 Oct 2065 07:28:00 GMT")
    site.put("nine-mib", os.urandom(9 << 20))
    site.put("several-parts", os.urandom(1 << 20) * 17, ContentType="application/x-block")
