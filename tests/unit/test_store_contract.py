"""The store contract over the directory and the memory store."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.store_contract")

from dr_toolkit.repository.file_store import FileStore  # noqa: E402
from dr_toolkit.repository.memory_store import MemoryStore  # noqa: E402
from tests.store_contract import StoreContract  # noqa: E402


class TestMemoryStore(StoreContract):
    """The fake keeps the contract, so tests may trust it."""

    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestFileStore(StoreContract):
    """A directory keeps the contract."""

    @pytest.fixture
    def store(self, tmp_path):
        store = FileStore(str(tmp_path / "repo"), create=True)
        yield store
        store.close()


class TestFileStoreWithoutLinks(StoreContract):
    """A directory on a filesystem without hard links keeps it within one process."""

    @pytest.fixture
    def store(self, tmp_path):
        store = FileStore(str(tmp_path / "repo"), create=True, links=False)
        yield store
        store.close()

    def test_probe_leaves_nothing(self, store):
        """Without links nobody refuses a name for us, and the probe says so."""
        assert store.probe_create_only() is False
        assert list(store.list("")) == []
