"""What the tests of restore, swap, scratch and compare share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from dr_toolkit.postgres.connection import ConnectionSettings, resolve
from dr_toolkit.postgres.dump import FIRST_S, LOCK_WAIT_S, Dump, running
from dr_toolkit.postgres.tools import Tools, choose
from dr_toolkit.repository.entries import EntryInfo, EntrySink
from tests.fakes import MemorySink, MemorySource


def settings_of(running, database: str, **fields) -> ConnectionSettings:
    """How to reach a database of a devstack server as superuser."""
    values = {
        "host": running.host,
        "port": running.port,
        "database": database,
        "user": running.superuser,
        "password": running.password,
    }
    return resolve(**{**values, **fields})


def tools_of(running) -> Tools:
    """Client programs of the server's own version."""
    return choose(running.version)


def dump_database(
    settings: ConnectionSettings,
    sink: EntrySink,
    tools: Tools,
    *,
    encoding: str | None = None,
    check_source: bool = False,
    lock_wait_s: float = LOCK_WAIT_S,
    tell_after_s: float = FIRST_S,
    on_bytes: Callable[[int], None] | None = None,
) -> Dump:
    """Start a dump and write it."""
    with running(
        settings, tools, encoding=encoding, check_source=check_source, lock_wait_s=lock_wait_s
    ) as started:
        return started.write(sink, tell_after_s=tell_after_s, on_bytes=on_bytes)


def snapshot(server, database: str) -> MemorySource:
    """A backup of a database, in memory."""
    sink = MemorySink()
    dump_database(settings_of(server, database), sink, tools_of(server))
    return MemorySource(sink)


class ChangedSource:
    """A source in which the content of one entry is another, or fails."""

    def __init__(
        self,
        source: MemorySource,
        chosen: Callable[[EntryInfo], bool],
        change: Callable[[Iterator[bytes]], Iterator[bytes]],
    ) -> None:
        self._source = source
        self._change = change
        self.path = next(info.path for info in source.entries() if chosen(info))

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        return self._source.entries(prefix)

    def read(self, path: str) -> Iterator[bytes]:
        pieces = self._source.read(path)
        return self._change(pieces) if path == self.path else pieces


class RelabelledSource:
    """A source that says something else about its entries."""

    def __init__(self, source: MemorySource, change: Callable[[EntryInfo], EntryInfo]) -> None:
        self._source = source
        self._change = change

    def entries(self, prefix: str = "") -> Iterator[EntryInfo]:
        return map(self._change, self._source.entries(prefix))

    def read(self, path: str) -> Iterator[bytes]:
        return self._source.read(path)


def table_is(name: str) -> Callable[[EntryInfo], bool]:
    """Choose the data of ``schema.table``."""
    return lambda info: f"{info.meta.get('schema')}.{info.meta.get('table')}" == name


def with_meta(info: EntryInfo, **meta: object) -> EntryInfo:
    """The same entry with other metadata."""
    return replace(info, meta={**info.meta, **meta})
