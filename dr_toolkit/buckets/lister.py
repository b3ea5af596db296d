"""Asking for the pages of a listing, by the second version of the question or by the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from dr_toolkit.buckets import pages
from dr_toolkit.buckets.listing import Page
from dr_toolkit.errors import SourceError


class Lister:
    """Lists one bucket. Safe to use from several threads.

    Args:
        where: the bucket, for messages.
        ask: puts a question about the bucket.
        ask_first: the same, with None where the server refuses the second version of listings.
    """

    def __init__(
        self, where: str, ask: Callable[[str], bytes], ask_first: Callable[[str], bytes | None]
    ) -> None:
        self._where = where
        self._ask = ask
        self._ask_first = ask_first
        self._old = False

    def pages(self, prefix: str, delimiter: str) -> Iterator[Page]:
        """The pages of one listing, unchecked.

        Args:
            prefix: of the keys.
            delimiter: leave out what has it after the prefix; pages name it as folders.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="drctl-list") as ahead:
            content = self._first(prefix, delimiter)
            while True:
                token = pages.next_token(content)  # the server makes the next page while this one is read
                following = ahead.submit(self._next, prefix, delimiter, token) if token else None
                page = self._page(content)
                self._old |= page.old
                yield page
                if not page.truncated or not page.token:
                    return
                asked = following is not None and page.token == token
                content = (
                    following.result() if asked and following else self._next(prefix, delimiter, page.token)
                )

    def _first(self, prefix: str, delimiter: str) -> bytes:
        """The first page, by the first version of the interface where the server refuses the second."""
        query = pages.query(prefix, None, delimiter=delimiter)
        found = None if self._old else self._ask_first(query)
        if found is not None:
            return found
        self._old = True
        return self._next(prefix, delimiter, None)

    def _next(self, prefix: str, delimiter: str, token: str | None) -> bytes:
        return self._ask(pages.query(prefix, token, delimiter=delimiter, old=self._old))

    def _page(self, content: bytes) -> Page:
        try:
            return pages.parse(content)
        except ValueError as error:
            raise SourceError(
                f"the listing of {self._where} cannot be believed: {error}",
                on=self._where,
                hint="look at the server and at proxies before it",
                unaffected="nothing was stored, copied or deleted on its word",
            ) from error
