"""What is kept of a Secret without its values, and where it comes from. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FINGERPRINT_BYTES = 16
_OPERATORS = {
    "ExternalSecret": "external-secrets",
    "ClusterExternalSecret": "external-secrets",
    "PushSecret": "external-secrets",
    "SealedSecret": "sealed-secrets",
    "Certificate": "cert-manager",
    "CertificateRequest": "cert-manager",
    "Bundle": "trust-manager",
    "VaultStaticSecret": "vault-secrets-operator",
    "VaultDynamicSecret": "vault-secrets-operator",
    "VaultPKISecret": "vault-secrets-operator",
}
"""Kinds of owners whose operator makes the Secret anew."""
_MARKS = (
    ("annotations", "cert-manager.io/certificate-name", "cert-manager", True),
    ("labels", "reconcile.external-secrets.io/managed", "external-secrets", False),
    ("annotations", "reconcile.external-secrets.io/data-hash", "external-secrets", False),
    ("annotations", "meta.helm.sh/release-name", "helm", True),
    ("annotations", "kubernetes.io/service-account.name", "service-account", True),
)
"""What operators and Helm write on a Secret: where, the key, whose it is, and whether its text is a name."""
_WAYS = {
    "external-secrets": "apply its ExternalSecret; the operator fetches the value",
    "sealed-secrets": "apply its SealedSecret, with the controller's old sealing key",
    "cert-manager": "apply its Certificate; a new key is issued",
    "trust-manager": "apply its Bundle; the operator makes it anew",
    "vault-secrets-operator": "apply its resource; the operator fetches the value",
    "helm": "comes with its Helm release; a random value in it is a NEW one after a reinstall",
    "service-account": "Kubernetes makes it for its service account",
    "owner": "its owner makes it",
    "by hand": "nobody makes it anew: from your password store, or include_values",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who makes a Secret.

    Attributes:
        by: ``external-secrets``, ``sealed-secrets``, ``cert-manager``, ``helm``, ``owner``, ``by hand``, …
        name: of the owner, certificate or release.
    """

    by: str
    name: str = ""

    def __str__(self) -> str:
        return f'{self.by} "{self.name}"' if self.name else self.by

    @property
    def way_back(self) -> str:
        """How the Secret comes back."""
        return _WAYS.get(self.by, _WAYS["owner"])


def origin(metadata: Mapping[str, Any], secret_type: str = "") -> Origin:
    """Where a Secret comes from, by its owners, annotations and labels."""
    owners = [one for one in metadata.get("ownerReferences") or [] if isinstance(one, Mapping)]
    for one in owners:
        if one.get("kind") in _OPERATORS:
            return Origin(_OPERATORS[str(one["kind"])], str(one.get("name", "")))
    annotations, labels = metadata.get("annotations") or {}, metadata.get("labels") or {}
    for place, key, by, named in _MARKS if annotations or labels else ():
        found = annotations if place == "annotations" else labels
        if key in found:
            return Origin(by, str(found[key]) if named else "")
    if secret_type == "kubernetes.io/service-account-token":  # noqa: S105 - a type of Secret
        return Origin("service-account")
    if owners:
        return Origin("owner", f"{owners[0].get('kind')}/{owners[0].get('name')}")
    if labels.get("app.kubernetes.io/managed-by") == "Helm":
        return Origin("helm", str(labels.get("app.kubernetes.io/instance", "")))
    return Origin("by hand")


def facts(secret: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """What is kept of a Secret: no value, and no annotation's text, because ``kubectl apply`` keeps all values in one.

    Args:
        secret: as the API gives it.
        key: of the fingerprints.
    """
    metadata = secret.get("metadata") or {}
    secret_type = str(secret.get("type", ""))
    found = origin(metadata, secret_type)
    return {
        "name": str(metadata.get("name", "")),
        "type": secret_type,
        "labels": dict(metadata.get("labels") or {}),
        "annotations": sorted(metadata.get("annotations") or {}),
        "keys": {
            str(name): _key(decoded(value), key) for name, value in sorted((secret.get("data") or {}).items())
        },
        "immutable": secret.get("immutable") is True,
        "owners": [
            {"kind": str(one.get("kind", "")), "name": str(one.get("name", ""))}
            for one in metadata.get("ownerReferences") or []
        ],
        "origin": {"by": found.by, "name": found.name},
        "created": str(metadata.get("creationTimestamp", "")),
        "resource_version": str(metadata.get("resourceVersion", "")),
    }


def _key(value: bytes, key: bytes) -> dict[str, Any]:
    return {"length": len(value), "fingerprint": fingerprint(value, key)}


def fingerprint(value: bytes, key: bytes) -> str:
    """HMAC-SHA256 of a value, cut to 16 bytes: equal values are seen to be equal, by who has the key."""
    digest = hmac.digest(key, value, hashlib.sha256)[:FINGERPRINT_BYTES]
    return base64.b64encode(digest).decode()


def decoded(value: object) -> bytes:
    """A value of a Secret as the API gives it."""
    try:
        return base64.b64decode(str(value or ""))
    except (binascii.Error, ValueError):
        return b""


def origin_of(kept: Mapping[str, Any]) -> Origin:
    """The origin in kept facts."""
    found = kept.get("origin") or {}
    return Origin(str(found.get("by", "by hand")), str(found.get("name", "")))


@dataclass(frozen=True, slots=True)
class Difference:
    """How a Secret differs from what was kept of it.

    Attributes:
        namespace: of the Secret.
        name: of the Secret.
        change: ``missing``, ``extra``, ``changed``, ``type``.
        origin: where it comes from.
        missing: keys that are not there any more.
        extra: keys that were not there.
        changed: keys with another value.
        type_before: kept.
        type_now: live.
        kept_values: keys of which the snapshot has the value.
    """

    namespace: str
    name: str
    change: str
    origin: Origin
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    type_before: str = ""
    type_now: str = ""
    kept_values: tuple[str, ...] = ()


def difference(
    namespace: str,
    kept: Mapping[str, Any] | None,
    live: Mapping[str, Any] | None,
    values: tuple[str, ...] = (),
) -> Difference | None:
    """Compare what was kept with what is live, both as ``facts`` under the same key; None when they are the same."""
    if kept is None and live is None:
        return None
    if kept is None or live is None:
        one, change = (live, "extra") if kept is None else (kept, "missing")
        assert one is not None  # noqa: S101  # for the type checker
        return Difference(namespace, str(one["name"]), change, origin_of(one), kept_values=values)
    before, now = kept.get("keys") or {}, live.get("keys") or {}
    missing, extra = tuple(sorted(set(before) - set(now))), tuple(sorted(set(now) - set(before)))
    changed = tuple(
        name
        for name in sorted(set(before) & set(now))
        if before[name].get("fingerprint") != now[name].get("fingerprint")
    )
    types = str(kept.get("type", "")), str(live.get("type", ""))
    if not (missing or extra or changed) and types[0] == types[1]:
        return None
    change = "type" if types[0] != types[1] else "changed"
    return Difference(
        namespace, str(kept["name"]), change, origin_of(live), missing, extra, changed, *types, values
    )
