"""Look at everything that a backup, a proof and a restore will need, before they need it. Changes nothing."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dr_toolkit import clock, errors
from dr_toolkit.buckets.client import Bucket
from dr_toolkit.config import Config, KeyFileConfig, S3Config
from dr_toolkit.jobs import bucket_places, doctor_cluster, doctor_left, findings, inspect, kinds, opening
from dr_toolkit.jobs.findings import Finding
from dr_toolkit.jobs.recipients import Absent, open_recipients
from dr_toolkit.log import Progress
from dr_toolkit.repository import repository
from dr_toolkit.repository.keyring import Recipient
from dr_toolkit.repository.repository import Repository
from dr_toolkit.repository.store import Store

_MODE = re.compile(rb"<Mode>(\w+)</Mode>")
_DAYS = re.compile(rb"<Days>(\d+)</Days>")
_YEARS = re.compile(rb"<Years>(\d+)</Years>")
_YEAR_DAYS = 365.0
_FOR_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def run(config: Config, progress: Progress) -> list[Finding]:
    """Look; each part for itself, so that one that fails hides no other."""
    found = list(findings.of_configuration(config))
    found += _key_files(config)
    progress.start(None, "repository")
    found += _repository(config)
    for name, component in config.components.items():
        progress.note(f"{name}: looking")
        found += _source(config, name, component.kind)
    progress.note("cluster: looking")
    found += doctor_cluster.look(config)
    found += doctor_left.look(config)
    progress.close()
    return found


def _key_files(config: Config) -> Iterator[Finding]:
    for name, key in config.keys.items():
        if not isinstance(key, KeyFileConfig):
            continue
        try:
            mode = Path(key.path).stat().st_mode
        except OSError:
            continue  # said where the recipient is tried
        if mode & _FOR_OTHERS:
            yield Finding(
                "warning",
                "keys",
                f'the key file "{key.path}" can be read by others on this machine',
                "who reads it can open what it opens",
                f"chmod 600 {key.path}",
                name,
            )


def _repository(config: Config) -> Iterator[Finding]:
    try:
        store = opening.store_of(config)
    except errors.DrctlError as error:
        yield findings.of_error(
            "repository", config.repository.url, error, "nothing can be backed up or restored"
        )
        return
    given: list[Recipient] = []
    with closing(store):
        try:
            given = open_recipients(config)
            opened = repository.open_repository(store, given, config.repository.trust)
            yield Finding("ok", "repository", f"{config.repository.url} is reached, and its keys verify")
            yield from _recipients(store, given, config.repository.trust)
            yield from _stock(opened)
        except errors.DrctlError as error:
            yield findings.of_error(
                "repository", config.repository.url, error, "nothing can be backed up or restored"
            )
            if isinstance(error, errors.StoreUnreachable):
                return  # to ask again for its time and its lock would take minutes, and say the same
        yield from _clock(store, backs_up=any(r.role != "read" and not isinstance(r, Absent) for r in given))
    yield from _lock(config)


def _recipients(store: Store, recipients: list[Recipient], trust: str | None) -> Iterator[Finding]:
    """Each recipient alone: the others hide one that does not work until the day it is needed."""
    for one in recipients:
        try:
            keys = repository.open_repository(store, [one], trust).keys
            if one.role != "read":
                keys.catalog_key(keys.current.epoch)
            if one.role != "write":
                keys.open_key(keys.current.epoch)
        except errors.DrctlError as error:
            absent = isinstance(error, errors.KeyRefused) and isinstance(error.__cause__, errors.ConfigError)
            why = (
                "what needs this recipient does not work here; right where its secret is not meant to be"
                if absent
                else "what needs this recipient fails"
            )
            found = findings.of_error("keys", one.name, error, why)
            yield found if not absent else Finding("note", "keys", found.what, why, found.todo, one.name)
        else:
            what = {"write": "back up", "read": "read"}.get(one.role, "back up and read")
            yield Finding(
                "ok", "keys", f'the recipient "{one.name}" ({one.kind}) unwraps what is needed to {what}'
            )


def _stock(opened: Repository) -> Iterator[Finding]:
    stock = inspect.inventory(opened)
    yield findings.of_stock(
        [error.message for error in stock.damaged], [one.text for one in stock.missing], len(stock.snapshots)
    )


def _clock(store: Store, *, backs_up: bool) -> Iterator[Finding]:
    """Ask the storage for its time, which takes a write. Where nothing is backed up, a copy that takes none is good enough."""
    try:
        yield findings.of_clock("repository", "the repository's storage", store.now(), clock.now())
    except errors.DrctlError as error:
        yield findings.of_no_write(error, backs_up=backs_up)


def _lock(config: Config) -> Iterator[Finding]:
    if not config.repository.url.startswith("s3://"):
        return
    name, prefix = bucket_places.split(config.repository.url)
    try:
        settings = opening.s3_settings(config.repository.s3 or S3Config(), config)
        with closing(Bucket(name, prefix, settings)) as bucket:
            lock, versions = bucket.ask("object-lock="), bucket.ask("versioning=")
    except errors.DrctlError as error:
        yield findings.of_error("repository", name, error, "whether its objects are immutable is not known")
        return
    content = lock.content if lock else b""
    mode, days, years = _MODE.search(content), _DAYS.search(content), _YEARS.search(content)
    keeps = b"<Status>Enabled</Status>" in versions.content if versions else None
    yield findings.of_lock(
        f"s3://{name}",
        versioning=keeps,
        mode=mode[1].decode() if mode else "",
        days=float(days[1]) if days else float(years[1]) * _YEAR_DAYS if years else 0.0,
    )


def _source(config: Config, name: str, kind: str) -> Iterator[Finding]:
    """What a backup would read: reach, credentials, versions of programs, TLS where it is asked for."""
    try:
        source = kinds.backup_of(kind).look(config, config.components[name])
    except errors.DrctlError as error:
        yield findings.of_error("source", name, error, "a backup of this component would fail")
        return
    programs = f", with the programs in {source.programs}" if source.programs else ""
    yield Finding("ok", "source", f"{name}: {source.place} is reached{programs}", on=name)
