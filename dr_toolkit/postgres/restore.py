"""Restore a dump into an empty database: in parallel, and without writing its data to a disk of ours.

``pg_restore --section=pre-data`` reads the small table of contents; then several ``pg_restore --section=data`` run side by
side, each fed the table of contents and only its own tables' blocks; then ``--section=post-data`` builds indexes and constraints
in parallel, again from the table of contents alone. Digests of tables that are loaded can be taken beside both: then plain indexes
come first, which readers do not hinder, and what locks readers out waits for them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

from dr_toolkit import clock, log
from dr_toolkit.log import NoProgress, Progress
from dr_toolkit.postgres import restore_frozen, restore_plan, restore_target
from dr_toolkit.postgres import sample as sampling
from dr_toolkit.postgres.archive_toc import Toc
from dr_toolkit.postgres.connection import ConnectionSettings, credentials, private_file
from dr_toolkit.postgres.early_digests import EarlyDigests
from dr_toolkit.postgres.restore_plan import DATA_PREFIX, DataUnit
from dr_toolkit.postgres.restore_program import Runner, Stopped, Target
from dr_toolkit.postgres.sample import Sample
from dr_toolkit.postgres.tools import Tools
from dr_toolkit.repository.entries import EntrySource

_log = log.get("postgres.restore")


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did.

    Attributes:
        bytes: data that was loaded, as the archive holds it.
        tables: how many tables got data.
        jobs: how many programs ran side by side.
        seconds: duration of ``pre_data``, ``data`` and ``post_data``.
        loaded: schema and name of each table that got data.
    """

    bytes: int
    tables: int
    jobs: int
    seconds: dict[str, float] = field(default_factory=dict)
    loaded: frozenset[tuple[str, str]] = frozenset()


def restore_into(
    source: EntrySource,
    settings: ConnectionSettings,
    tools: Tools,
    *,
    jobs: int = 2,
    sample: Sample | None = None,
    no_owner: bool = False,
    options: Sequence[str] = (),
    early: EarlyDigests | None = None,
    frozen_from: int = restore_frozen.FROM_BYTES,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore a snapshot's dump into an empty database.

    Args:
        source: the snapshot's entries.
        settings: the database, which must exist and be empty.
        tools: PostgreSQL's programs to use.
        jobs: how many ``pg_restore`` run side by side.
        sample: only a part of the rows; None for everything.
        no_owner: leave out owners and privileges; everything belongs to the connection's user.
        options: further options for every ``pg_restore``.
        early: told of tables as they are loaded; has done its work when this returns.
        frozen_from: from so many bytes on a table is loaded frozen.
        progress: told of each stage.

    Raises:
        TargetError: the database is not empty, lacks something, or refused; it is left as far as it came.
        Damaged: the snapshot's content is.
    """
    toc = restore_plan.toc_of(source)
    version = restore_target.check(
        settings, toc, tool_major=tools.major, no_owner=no_owner, must_be_empty=True
    )
    wanted = sample.wants if sample else None
    units = restore_plan.data_units(toc, source.entries(DATA_PREFIX), jobs=jobs, tables=wanted)
    more = (*(("--no-owner", "--no-privileges") if no_owner else ()), *options)
    with credentials(settings) as env:
        target = Target(settings, tools, env, version // 10_000, more)
        sizes = restore_plan.sizes(source.entries(DATA_PREFIX))
        load = restore_frozen.frozen(toc, sizes, at_least=frozen_from)
        work = _Restore(source, toc, load, Runner(target), jobs, progress or NoProgress(), sample, early)
        seconds = work.all(units)
    ids = {dump_id for unit in work.loaded for dump_id in unit.dump_ids}
    return RestoreReport(
        bytes=sum(unit.size for unit in work.loaded),
        tables=sum(unit.tables for unit in work.loaded),
        jobs=jobs,
        seconds=seconds,
        loaded=frozenset(
            (e.namespace or "", e.tag) for e in toc.entries if e.dump_id in ids and e.desc == "TABLE DATA"
        ),
    )


def exact_archive(source: EntrySource) -> Iterator[bytes]:
    """The archive as ``pg_dump`` wrote it, byte for byte: what ``pg_restore`` reads."""
    yield from source.read(restore_plan.TOC_PATH)
    for info in source.entries(DATA_PREFIX):
        yield from source.read(info.path)


def stream(source: EntrySource, toc: bytes, paths: Sequence[str], progress: Progress) -> Iterator[bytes]:
    """What ``pg_restore`` reads: a table of contents, then the data blocks with these paths, in the archive's order.

    Progress is told of the blocks' bytes as they are taken.
    """
    yield toc
    for path in paths:
        for piece in source.read(path):
            yield piece
            progress.advance(len(piece))


@contextmanager
def list_file(dump_ids: Sequence[int]) -> Iterator[str]:
    """A private file that names entries as ``pg_restore --use-list`` wants them."""
    with private_file("entries", "".join(f"{dump_id};\n" for dump_id in dump_ids).encode()) as path:
        yield path


class _Restore:
    """The three sections of one restore."""

    def __init__(
        self,
        source: EntrySource,
        toc: Toc,
        load: bytes,
        runner: Runner,
        jobs: int,
        progress: Progress,
        sample: Sample | None,
        early: EarlyDigests | None,
    ) -> None:
        self._source = source
        self._toc = toc
        self._load_toc = load
        self._runner = runner
        self._jobs = jobs
        self._progress = progress
        self._sample = sample
        self._early = early
        self._names = {e.dump_id: (e.namespace or "", e.tag) for e in toc.entries if e.desc == "TABLE DATA"}
        limit = sample.seconds if sample else None
        self._latest = None if limit is None else clock.monotonic() + limit
        section = [entry.dump_id for entry in restore_plan.in_section(toc, "post-data")]
        self._section = section if sample is None else sampling.post_data_ids(toc, sample)
        self._readers = {
            dump_id: needed
            for dump_id, needed in restore_plan.beside_readers(toc).items()
            if dump_id in frozenset(self._section)
        }
        self._waiting = dict(self._readers)
        self._lock = threading.Lock()
        self._beside: list[Future[None]] = []
        self.loaded: list[DataUnit] = []

    def all(self, units: Sequence[DataUnit]) -> dict[str, float]:
        """Run them; gives how long each took."""
        with ThreadPoolExecutor(max_workers=self._jobs, thread_name_prefix="restore") as pool:
            steps: dict[str, Callable[[], None]] = {
                "pre_data": self._pre_data,
                "data": lambda: self._data(units, pool),
                "post_data": self._post_data,
            }
            try:
                return self._run(steps)
            except BaseException:
                self._runner.stop()
                if self._early is not None:
                    self._early.stop()
                raise

    def _run(self, steps: Mapping[str, Callable[[], None]]) -> dict[str, float]:
        seconds = {}
        for name, step in steps.items():
            began = clock.monotonic()
            step()
            seconds[name] = round(clock.monotonic() - began, 3)
            _log.info("section restored", section=name, seconds=seconds[name])
        return seconds

    def _pre_data(self) -> None:
        self._progress.start(None, "restoring definitions")
        self._runner.feed("definitions", ["--section=pre-data"], [self._toc.raw])

    def _data(self, units: Sequence[DataUnit], pool: Executor) -> None:
        self._progress.start(sum(unit.size for unit in units), "restoring data")
        order = list(units)
        if self._latest is not None:
            random.shuffle(order)  # so that many runs, each of which is too short, see every table
        futures = [pool.submit(self._load, unit, pool) for unit in order]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed = _first_failure(futures)
        if failed is not None:
            raise failed

    def _load(self, unit: DataUnit, pool: Executor) -> None:
        if self._latest is not None and clock.monotonic() >= self._latest:
            return
        with list_file(unit.dump_ids) as path:
            self._runner.feed(
                _naming(unit),
                ["--section=data", f"--use-list={path}"],
                stream(self._source, self._load_toc, unit.paths, self._progress),
            )
        self.loaded.append(unit)
        names = [self._names[dump_id] for dump_id in unit.dump_ids if dump_id in self._names]
        if self._early is not None and self._early.loaded(names):
            # Behind everything that is still to be loaded: so all threads load as long as there is something to load.
            self._beside += [pool.submit(self._early.work), pool.submit(self._early_indexes)]

    def _early_indexes(self) -> None:
        """Build the indexes of tables that are loaded. Half of the programs: the others load, or read for digests."""
        with self._lock:
            there = {dump_id for unit in self.loaded for dump_id in unit.dump_ids}
            ready = [dump_id for dump_id, needed in self._waiting.items() if needed and needed <= there]
            for dump_id in ready:
                del self._waiting[dump_id]
        self._build(ready, jobs=max(1, self._jobs // 2))

    def _post_data(self) -> None:
        self._progress.start(None, "building indexes and constraints")
        if not self._beside:
            self._build(None if self._sample is None else self._section, jobs=self._jobs)
            return
        with self._lock:
            ready, self._waiting = list(self._waiting), {}
        self._build(ready, jobs=self._jobs)
        for future in self._beside:
            future.result()
        self._build([one for one in self._section if one not in self._readers], jobs=self._jobs)

    def _build(self, dump_ids: Sequence[int] | None, *, jobs: int) -> None:
        """Run these entries of the last section; None for all of it."""
        # Parallel pg_restore wants a file that it can seek in. The table of contents alone will do: there is no data after it.
        options = ["--section=post-data", f"--jobs={jobs}"]
        with private_file("toc", self._toc.raw) as path:
            if dump_ids is None:
                self._runner.run("indexes and constraints", [*options, path])
            elif dump_ids:
                with list_file(dump_ids) as chosen:
                    self._runner.run("indexes and constraints", [*options, f"--use-list={chosen}", path])


def _first_failure(futures: Sequence[Future[None]]) -> BaseException | None:
    """The error that ended the work, not those of programs that were ended because of it."""
    for future in futures:
        error = future.exception() if future.done() else None
        if error is not None and not isinstance(error, Stopped):
            return error
    return None


def _naming(unit: DataUnit) -> str:
    first = f'"{unit.names[0]}"'
    return first if len(unit.names) == 1 else f"{first} and {len(unit.names) - 1} more tables"
