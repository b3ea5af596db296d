"""What the Kubernetes API answers when it does not do what was asked, in words of our tree. Pure.

Bodies of answers are not repeated: a validation error quotes the value that it refuses. Only what is known to hold names alone
is taken from them: the reason, the names of fields, and why an authorizer or an admission plugin said no.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dr_toolkit import log
from dr_toolkit.cluster import paths
from dr_toolkit.errors import DrctlError, SourceError, SourceUnreachable

PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may be others when asked again."""
UNDONE = frozenset({429, 503})
"""Statuses with which a server says that it did nothing."""
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_LONGEST_REASON = 400
_LONGEST_WAIT = 60.0


class Unauthorized(SourceError):
    """The API server does not know who asks."""


class Forbidden(SourceError):
    """The API server knows who asks, and does not allow it.

    Args:
        message: what was refused.
        rule: the rule that is missing, as a line of YAML; empty where not RBAC said no.
        on: the thing that was asked about.
        hint: what to do.
    """

    def __init__(self, message: str, *, rule: str, on: str, hint: str) -> None:
        super().__init__(message, on=on, hint=hint)
        self.rule = rule


class NotFound(SourceError):
    """There is no such object, namespace or resource."""


class Conflict(SourceError):
    """It exists already, or was changed by somebody else meanwhile."""


class Gone(SourceError):
    """The state that a list began with is not kept any more; the list must begin again."""


_PLAIN: dict[int, tuple[type[SourceError], str, str]] = {
    404: (NotFound, "not found", "check names and namespaces in the configuration"),
    409: (Conflict, "it exists already, or was changed meanwhile", "run the command again"),
    410: (Gone, "the list took longer than the API server keeps its state", "run the command again"),
}


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that the server asks to wait, within reason; 0 when it does not say."""
    text = headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT) if text.isdecimal() else 0.0


def unreachable(server: str, on: str, reason: str) -> SourceUnreachable:
    """The API server did not answer, or said that it cannot for now."""
    return SourceUnreachable(
        f"cannot work with the Kubernetes API at {server}: {reason}",
        on=on,
        hint="check the network, the proxy and the API server, then run the command again",
    )


def refused(server: str, method: str, path: str, status: int, body: bytes) -> DrctlError:
    """The error that an answer means.

    Args:
        server: the API server's URL.
        method: of the request.
        path: of the request.
        status: HTTP's.
        body: of the answer; only what holds no values is taken from it.
    """
    place = paths.place_of(path)
    on = str(place) if place else path
    said = _status_of(body)
    reason = str(said.get("reason") or status)
    if status == _UNAUTHORIZED:
        return Unauthorized(
            f"the Kubernetes API at {server} does not accept the credentials",
            on=on,
            hint="renew the token or the client certificate: the kubeconfig's user, or the pod's service account",
        )
    if status == _FORBIDDEN:
        return _forbidden(server, method, place, on, _short(said.get("message")))
    if status in _PLAIN:
        kind, words, hint = _PLAIN[status]
        return kind(f"{on}: {words}", on=on, hint=hint)
    if status in PASSING:
        return unreachable(server, on, f"{status} {reason}")
    fields = ", ".join(_fields(said))
    return SourceError(
        f"the Kubernetes API refused to {_doing(method, place)} {on}: {status} {reason}"
        + (f" ({fields})" if fields else ""),
        on=on,
        hint="look into the API server's log: what it said is not shown, because it may hold a secret",
    )


def _forbidden(server: str, method: str, place: paths.Place | None, on: str, message: str) -> Forbidden:
    by_authorizer = "cannot " in message or not message
    if place is None or not by_authorizer:
        return Forbidden(
            f"the Kubernetes API at {server} does not allow it: {message or 'no reason was given'}",
            rule="",
            on=on,
            hint="a quota, Pod Security or an admission policy said no: change it, or what it forbids",
        )
    verb = paths.verb_of(method, place)
    missing = paths.rule(verb, place.group, place.resource)
    where = (
        f'a Role in namespace "{place.namespace}" and a RoleBinding'
        if place.namespace
        else "a ClusterRole and a ClusterRoleBinding"
    )
    return Forbidden(
        f"the Kubernetes API does not allow to {verb} {on}" + (f": {message}" if message else ""),
        rule=missing,
        on=on,
        hint=f"the missing rule, for {where}: {missing}",
    )


def _doing(method: str, place: paths.Place | None) -> str:
    return paths.verb_of(method, place) if place else method.lower()


def _status_of(body: bytes) -> Mapping[str, Any]:
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return said if isinstance(said, dict) else {}


def _fields(said: Mapping[str, Any]) -> list[str]:
    details = said.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    if not isinstance(causes, list):
        return []
    return [str(cause.get("field", ""))[:100] for cause in causes[:5] if isinstance(cause, dict)]


def _short(text: object) -> str:
    line = " ".join(str(text or "").split())
    return log.masked(line[:_LONGEST_REASON])
