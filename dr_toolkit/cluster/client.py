"""The Kubernetes API as plain JSON.

Requests go out by the connections of the ``kubernetes`` library (``connection.py``), and what comes back stays a dictionary, so that fields
that nobody knows yet are kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import msgspec
import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, NewConnectionError, ProxyError

from dr_toolkit import errors, log
from dr_toolkit.cluster import faults
from dr_toolkit.cluster.connection import Connection
from dr_toolkit.cluster.faults import Gone, NotFound, Unauthorized
from dr_toolkit.config import ClusterConfig
from dr_toolkit.repository.retries import Passing, Retries

_FORMS = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
_OK = 200
_REDIRECTS = 300
_RESTARTS = 3
_FIRST_LIMIT = 4
_LOG_PIECE = 64 << 10

_log = log.get("cluster")
_renewing = threading.Lock()


class Cluster:
    """A Kubernetes API server. Safe to use from several threads.

    Args:
        config: how it is reached.
        retry_seconds: no attempt begins later than this after the first one.
        stall_seconds: how long the server may be silent.
    """

    def __init__(
        self, config: ClusterConfig, *, retry_seconds: float = 60.0, stall_seconds: float = 60.0
    ) -> None:
        self._config = config
        self._retries = Retries(retry_seconds)
        self._timeout = urllib3.Timeout(connect=min(10.0, stall_seconds), read=stall_seconds)
        self._connection = Connection(config)
        self._date = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._connection.pool.clear()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._connection.host

    @property
    def namespace(self) -> str:
        """The namespace that is ours: of the service account, or of the kubeconfig's context; empty where none is named."""
        return self._connection.namespace

    @property
    def date(self) -> datetime | None:
        """The server's clock, as its last answer told it."""
        try:
            return parsedate_to_datetime(self._date).astimezone(UTC)
        except ValueError:
            return None

    def get(
        self, path: str, *, query: Mapping[str, str] | None = None, accept: str | None = None
    ) -> dict[str, Any]:
        """Read one object, or one page of a list.

        Raises:
            NotFound: it does not exist.
            Forbidden: the missing RBAC rule is in ``rule``.
            SourceUnreachable: the server did not answer in time, or said that it cannot.
        """
        return self._json("GET", path, query=query, accept=accept, again=True)

    def find(self, path: str) -> dict[str, Any] | None:
        """Read one object; None when it does not exist."""
        try:
            return self.get(path)
        except NotFound:
            return None

    def pages(
        self,
        path: str,
        *,
        limit: int = 500,
        page_bytes: int | None = None,
        query: Mapping[str, str] | None = None,
        accept: str | None = None,
        restarted: Callable[[], None] | None = None,
    ) -> Iterator[list[dict[str, Any]]]:
        """A whole list, page by page: it ends complete, or raises.

        When the server does not keep the state that the list began with any more (410), the list begins again.

        Args:
            path: of the collection.
            limit: objects of a page at most.
            page_bytes: find a limit, up to ``limit``, with which a page has about so many bytes: for objects of unknown size.
            query: selectors.
            accept: ``METADATA_ONLY`` where the objects' content is not needed.
            restarted: called before the list begins again; what came so far is to be forgotten. Without it the list does not
                begin again, and the error is raised.

        Raises:
            Gone: the list took longer than the server keeps its state, several times.
        """
        for remaining in range(_RESTARTS, -1, -1):
            try:
                yield from self._pages(path, limit, page_bytes, dict(query or {}), accept)
            except Gone:
                if restarted is None or not remaining:
                    raise
                _log.warning("the list begins again: the API server does not keep its state", on=path)
                restarted()
            else:
                return

    def _pages(
        self, path: str, limit: int, page_bytes: int | None, query: dict[str, str], accept: str | None
    ) -> Iterator[list[dict[str, Any]]]:
        now = min(limit, _FIRST_LIMIT) if page_bytes else limit
        while True:
            query["limit"] = str(now)
            body = self._send("GET", path, query=query, accept=accept, again=True)
            page = _decoded(body, self.server, path)
            items, meta = page.pop("items", None), page.get("metadata")
            if not isinstance(items, (list, type(None))) or not isinstance(meta, dict):
                raise errors.SourceError(f'"{path}" of the Kubernetes API is no list', on=path)
            query["continue"] = str(meta.get("continue") or "")
            if page_bytes:
                each = len(body) / max(len(items or []), 1)
                now = max(1, min(limit, 4 * now, int(page_bytes / max(each, 1.0))))
            # From here on only the caller holds the objects, and may let go of each before the next page comes.
            del body
            given = [items or []]
            del items
            yield given.pop()
            if not query["continue"]:
                return

    def create(
        self, path: str, body: Mapping[str, Any], *, query: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Create an object in a collection. Asked again only where the server surely did nothing.

        Raises:
            Conflict: it exists already.
        """
        return self._json("POST", path, query=query, body=body)

    def patch(
        self,
        path: str,
        body: Mapping[str, Any] | list[Any],
        *,
        form: str = "merge",
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Change an object.

        Args:
            path: of the object, or of its subresource.
            body: the patch.
            form: ``merge``, ``strategic``, ``json`` or ``apply``.
            query: ``fieldManager`` and its like.
        """
        return self._json(
            "PATCH", path, query=query, body=body, content_type=_FORMS[form], again=form != "json"
        )

    def delete(self, path: str, *, body: Mapping[str, Any] | None = None) -> None:
        """Delete an object; one that is gone already is a success only when the first try's answer was lost.

        Raises:
            NotFound: there was none.
        """
        tried: list[None] = []
        try:
            self._send("DELETE", path, body=body, again=True, tried=tried)
        except NotFound:
            if len(tried) < 2:  # noqa: PLR2004 - the first try
                raise

    def log(self, namespace: str, pod: str, container: str = "") -> Iterator[bytes]:
        """What a container wrote, in pieces. A connection that breaks in the middle ends it with an error."""
        query = f"?{urlencode({'container': container})}" if container else ""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        headers = {"Accept": "*/*", "User-Agent": "drctl"}
        answer = self._retries.run(lambda: self._answer("GET", path + query, None, headers, again=True))
        try:
            yield from answer.stream(_LOG_PIECE)
        except (HTTPError, OSError) as error:
            raise faults.unreachable(self.server, path, _reason(error)) from error
        finally:
            answer.close()

    def allowed(
        self,
        verb: str,
        group: str,
        resource: str,
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> bool:
        """Whether RBAC lets us do this (SelfSubjectAccessReview).

        Args:
            verb: ``list``.
            group: the API group; empty for the core group.
            resource: the plural name.
            namespace: empty for all, and for resources of the whole cluster.
            name: of one object.
            subresource: ``log``.
        """
        wanted = {
            "verb": verb,
            "group": group,
            "resource": resource,
            "namespace": namespace,
            "name": name,
            "subresource": subresource,
        }
        answer = self._json(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {key: value for key, value in wanted.items() if value}},
            },
            again=True,
        )
        status = answer.get("status")
        return isinstance(status, dict) and status.get("allowed") is True

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return _decoded(self._send(method, path, **more), self.server, path)

    def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        accept: str | None = None,
        body: Mapping[str, Any] | list[Any] | None = None,
        content_type: str = "application/json",
        again: bool = False,
        tried: list[None] | None = None,
    ) -> bytes:
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Accept": accept or "application/json", "User-Agent": "drctl"}
        payload = None
        if body is not None:
            payload, headers["Content-Type"] = msgspec.json.encode(body), content_type

        def attempt() -> bytes:
            if tried is not None:
                tried.append(None)
            answer = self._answer(method, target, payload, headers, again=again)
            try:
                return bytes(answer.data)
            except (HTTPError, OSError) as error:
                raise self._passing(error, path, again=again) from error

        return self._retries.run(attempt)

    def _answer(
        self, method: str, target: str, payload: bytes | None, headers: Mapping[str, str], *, again: bool
    ) -> Any:
        """One answer that says yes, its body not read yet."""
        connection = self._connection
        try:
            return self._once(connection, method, target, payload, headers, again=again)
        except Unauthorized:
            if not self._renewed(connection):
                raise
            return self._once(self._connection, method, target, payload, headers, again=again)

    def _once(
        self,
        connection: Connection,
        method: str,
        target: str,
        payload: bytes | None,
        headers: Mapping[str, str],
        *,
        again: bool,
    ) -> Any:
        place = target.partition("?")[0]
        try:
            answer = connection.pool.request(
                method,
                connection.host + target,
                body=payload,
                headers={**headers, **connection.authorization()},
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            if _OK <= answer.status < _REDIRECTS:
                self._date = str(answer.headers.get("Date", "")) or self._date
                return answer
            body = answer.data
        except (HTTPError, OSError) as error:
            raise self._passing(error, place, again=again) from error
        failed = faults.refused(connection.host, method, place, answer.status, body)
        if answer.status in (faults.PASSING if again else faults.UNDONE):
            raise Passing(failed, faults.retry_after(answer.headers))
        raise failed

    def _passing(self, error: Exception, on: str, *, again: bool) -> Exception:
        """What to raise when the connection failed: something to try again, or the failure itself."""
        failure = faults.unreachable(self.server, on, _reason(error))
        if _for_good(error) or not (again or isinstance(error, NewConnectionError)):
            return failure
        return Passing(failure)

    def _renewed(self, used: Connection) -> bool:
        """Read the credentials again, once for all threads; False when they are still those that were refused."""
        with _renewing:
            if self._connection is not used:
                return True
            fresh = Connection(self._config)
            same = fresh.authorization() == used.authorization() and not fresh.configuration.cert_file
            if same:
                return False
            self._connection = fresh
            _log.info("the credentials were read again", server=fresh.host)
            return True


def _decoded(body: bytes, server: str, path: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.SourceError(f"what {server} answered to {path} is not JSON", on=path) from error
    if not isinstance(found, dict):
        raise errors.SourceError(f"what {server} answered to {path} is no object", on=path)
    return found


def _for_good(error: BaseException) -> bool:
    """Whether asking again is useless."""
    text = type(error).__name__ + str(error)
    return (
        "CERTIFICATE_VERIFY_FAILED" in text
        or "Tunnel connection failed: 4" in text
        or isinstance(error, LocationParseError)
    )


def _reason(error: BaseException) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its certificate is not trusted"
    if isinstance(error, ProxyError):
        _before, said, status = text.partition("Tunnel connection failed: ")
        return f"the proxy answered {status[:3]}" if said else "the proxy cannot be reached"
    if "refused" in text:
        return "connection refused"
    return type(error).__name__
