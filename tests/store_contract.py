"""The contract of ``dr_toolkit.repository.store.Store`` as tests: every implementation runs them.

A test module subclasses ``StoreContract`` and defines a fixture ``store`` that gives an empty store.
"""

from __future__ import annotations

import threading
from datetime import UTC, timedelta

import pytest

from dr_toolkit import clock
from dr_toolkit.errors import Damaged, ObjectMissing, StoreConflict, UsageError

BAD_NAMES = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "../a",
    "a/./b",
    "a b",
    "ä",
    "a\\b",
    "a\n",
    "tmp/x",
    "x" * 256,
]


def names(store, prefix=""):
    return [found.name for found in store.list(prefix)]


class StoreContract:
    """Subclass me."""

    def test_what_was_put_is_given_back(self, store):
        """Every byte value, and the empty object, comes back as it went in."""
        for name, data in {"a": bytes(range(256)) * 100, "f/empty": b"", "f/g/h.i_j-K": b"x"}.items():
            store.put(name, data)
            got = store.get(name)
            assert isinstance(got, bytes)
            assert got == data

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_buffers_may_be_reused_after_put(self, store, kind):
        """Any kind of buffer is accepted, and changing it later does not change the object."""
        raw = bytearray(b"abc" * 1000)
        given = raw if kind is bytearray else memoryview(raw) if kind is memoryview else bytes(raw)
        store.put("x", given)
        raw[:] = b"\0" * len(raw)
        assert store.get("x") == b"abc" * 1000

    def test_sixteen_mebibytes(self, store):
        """A pack of full size goes through in one piece."""
        data = b"0123456789abcdef" * (1 << 20)
        store.put("packs/00/big", memoryview(data))
        assert store.get("packs/00/big") == data
        assert store.head("packs/00/big").size == len(data)

    def test_a_name_is_created_once(self, store):
        """Other content under an existing name is a conflict that changes nothing; equal content is success."""
        store.put("f/a", b"first")
        store.put("f/a", bytearray(b"first"))
        for other in (b"other", b"firs", b"first!", b""):
            with pytest.raises(StoreConflict) as caught:
                store.put("f/a", other)
            assert caught.value.on == "f/a"
        assert store.get("f/a") == b"first"

    def test_what_is_not_there_is_missing(self, store):
        """Every way to read says ObjectMissing with the name; exists says no."""
        store.put("f/there", b"x")
        for name in ("nothing", "f/nothing", "f/g/nothing", "f"):
            for read in (
                lambda name=name: store.get(name),
                lambda name=name: store.get_range(name, 0, 1),
                lambda name=name: store.get_tail(name, 1),
                lambda name=name: store.head(name),
            ):
                with pytest.raises(ObjectMissing) as caught:
                    read()
                assert caught.value.on == name
            assert store.exists(name) is False
        assert store.exists("f/there") is True

    def test_ranges_are_exact(self, store):
        """A range has exactly its length; beyond the end is damage, and nothing is nothing."""
        data = bytes(range(200))
        store.put("r", data)
        assert store.get_range("r", 0, 200) == data
        assert store.get_range("r", 17, 5) == data[17:22]
        assert isinstance(store.get_range("r", 17, 5), bytes)
        assert store.get_range("r", 199, 1) == data[199:]
        assert store.get_range("r", 50, 0) == b""
        for offset, length in ((0, 201), (199, 2), (200, 1), (5000, 10)):
            with pytest.raises(Damaged) as caught:
                store.get_range("r", offset, length)
            assert caught.value.on == "r"

    def test_range_of_an_empty_object_is_damage(self, store):
        """An object cut to nothing is too short for every range."""
        store.put("r", b"")
        with pytest.raises(Damaged):
            store.get_range("r", 0, 1)

    def test_tails(self, store):
        """The tail is what is there, up to the length, with the whole size."""
        data = bytes(range(200))
        store.put("t", data)
        store.put("empty", b"")
        assert store.get_tail("t", 10) == (data[190:], 200)
        assert store.get_tail("t", 200) == (data, 200)
        assert store.get_tail("t", 1000) == (data, 200)
        assert store.get_tail("empty", 10) == (b"", 0)

    def test_times_are_the_stores(self, store):
        """Times are aware and UTC, and lie between the store's own moments before and after."""
        before = store.now()
        store.put("x", b"12345")
        facts = store.head("x")
        (listed,) = store.list("x")
        assert (listed.name, listed.size) == ("x", facts.size) == ("x", 5)
        for moment in (before, facts.modified, listed.modified):
            assert moment.tzinfo is UTC or moment.utcoffset() == timedelta(0)
        # Listings may cut fractions of a second that heads give, and the other way round.
        assert before - timedelta(seconds=1) <= facts.modified <= store.now() + timedelta(seconds=1)
        assert abs(listed.modified - facts.modified) <= timedelta(seconds=1)
        assert before.microsecond == 0
        assert abs(before - clock.now()) < timedelta(seconds=10)

    def test_listing_is_complete_and_in_order_within_folders(self, store):
        """Every object once, with its size; names of one folder ascend, also where folders look alike."""
        expected = [
            "B/x",
            "a-b/c",
            "a.b",
            "a/b",
            "a/c",
            "a/b-c/d",
            "a0",
            "b/C",
            "b/c/d/e",
            "b/c/e",
            "b/c/f",
            "zz/1",
        ]
        for name in reversed(expected):
            store.put(name, name.encode())
        found = list(store.list(""))
        assert sorted(line.name for line in found) == sorted(expected)
        assert all(line.size == len(line.name) for line in found)
        folders = {}
        for line in found:
            folder, _, base = line.name.rpartition("/")
            folders.setdefault(folder, []).append(base)
        assert all(bases == sorted(bases) for bases in folders.values())

    def test_listing_many(self, store):
        """More objects than one page of any server's listing."""
        expected = [f"many/{number % 7}/{number:05d}" for number in range(1100)]
        for name in expected:
            store.put(name, b"")
        assert names(store, "many/") == sorted(expected)
        assert names(store, "many/3/") == sorted(name for name in expected if name.startswith("many/3/"))

    def test_prefixes(self, store):
        """A prefix is a folder, or a folder and the beginning of a name; what lies elsewhere is not given."""
        for name in ("s/db/2026a", "s/db/2026b", "s/db/2027", "s/db2/2026", "s/dc/x", "t"):
            store.put(name, b"1")
        assert names(store, "s/db/") == ["s/db/2026a", "s/db/2026b", "s/db/2027"]
        assert names(store, "s/db/2026") == ["s/db/2026a", "s/db/2026b"]
        assert names(store, "s/db") == ["s/db/2026a", "s/db/2026b", "s/db/2027", "s/db2/2026"]
        assert names(store, "t") == ["t"]
        assert names(store, "nothing/") == []
        assert names(store, "s/nothing") == []

    def test_empty_store_lists_nothing(self, store):
        """Nothing is not an error here; whether it should be is for the caller to say."""
        assert names(store) == []

    def test_delete_is_idempotent(self, store):
        """A deleted object is missing, deleting again is success, and its neighbours stay."""
        store.put("f/a", b"1")
        store.put("f/b", b"2")
        store.delete("f/a")
        store.delete("f/a")
        store.delete("never/was")
        assert not store.exists("f/a")
        assert names(store) == ["f/b"]
        store.put("f/a", b"again")
        assert store.get("f/a") == b"again"

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_impossible_names_are_refused(self, store, name):
        """No call takes a name that could mean something else, or lie elsewhere, in some storage."""
        for call in (
            lambda: store.put(name, b"x"),
            lambda: store.get(name),
            lambda: store.get_range(name, 0, 1),
            lambda: store.get_tail(name, 1),
            lambda: store.head(name),
            lambda: store.exists(name),
            lambda: store.delete(name),
        ):
            with pytest.raises(UsageError):
                call()

    @pytest.mark.parametrize("prefix", ["/", "/a", "..", "../", "a//", "a/../b/", "a b", "tmp/", "a/."])
    def test_impossible_prefixes_are_refused(self, store, prefix):
        """No listing leaves the store."""
        if prefix in {"..", "a/."}:
            assert names(store, prefix) == []
        else:
            with pytest.raises(UsageError):
                list(store.list(prefix))

    def test_probe_leaves_nothing(self, store):
        """The probe finds that names are created once, and cleans up."""
        assert store.probe_create_only() is True
        assert names(store) == []

    def test_racing_writers_of_one_name(self, store):
        """Of several contents for one name exactly one wins, the same for all; the others get a conflict."""
        for attempt in range(5):
            name, won, lost = f"race/{attempt}", [], []
            start = threading.Barrier(4)

            def write(content, name=name, won=won, lost=lost, start=start):
                start.wait(10)
                try:
                    store.put(name, content)
                    won.append(content)
                except StoreConflict:
                    lost.append(content)

            threads = [threading.Thread(target=write, args=(bytes([65 + who]) * 50_000,)) for who in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert len(won) == 1
            assert len(lost) == 3
            assert store.get(name) == won[0]

    def test_racing_writers_of_equal_content(self, store):
        """Who writes the same content as another succeeds."""
        failed = []
        start = threading.Barrier(4)

        def write():
            start.wait(10)
            try:
                store.put("race/equal", b"same" * 1000)
            except StoreConflict as error:
                failed.append(error)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert failed == []

    def test_threads_share_a_store(self, store):
        """Puts, gets and listings from several threads at once do not disturb each other."""
        failed = []

        def work(who):
            try:
                for number in range(20):
                    name, data = f"par/{who}/{number:02d}", bytes([who, number]) * 500
                    store.put(name, data)
                    assert store.get(name) == data
                    assert len(names(store, f"par/{who}/")) == number + 1
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert failed == []
        assert len(names(store, "par/")) == 80

    def test_describe_names_the_place(self, store):
        """Something to put in messages."""
        assert store.describe()
        assert "\n" not in store.describe()

    def test_close_is_idempotent(self, store):
        """Closing twice is fine."""
        store.close()
        store.close()
