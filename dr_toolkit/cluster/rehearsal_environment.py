"""What Console is given in a rehearsal: its own settings without whatever leads outside, throw-away values for secrets, and the copy's address. Pure.

The namespace is closed, so a live credential could reach nothing. It is not given one all the same: what is not there cannot leak.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from dr_toolkit.cluster import redaction, yaml_text
from dr_toolkit.cluster.environment import Container
from dr_toolkit.cluster.rehearsal_shape import Shape

CONFIG_FILE = "CDK_IN_CONF_FILE"
DATABASE_URL = "CDK_DATABASE_URL"
OUTWARD = (
    "database",
    "kafkasql",
    "clusters",
    "sso",
    "ssl",
    "platformhttps",
    "monitoring",
    "auditlogpublisher",
    "license",
    "envfile",
)
"""Settings that are left out, without their signs: other databases, Kafka, single sign-on, certificates, metrics, the license."""
_PREFIX = "CDK_"
_PROXIES = frozenset({"httpproxy", "httpsproxy", "noproxy", "allproxy"})
_NEEDED = {"CDK_ORGANIZATION_NAME": "rehearsal", "CDK_ADMIN_EMAIL": "rehearsal@drctl.invalid"}
"""Without these and a password Console does not start; whoever logs in is not asked for here."""
_PASSWORD = "CDK_ADMIN_PASSWORD"  # noqa: S105 - a variable's name
_PLACE = ("$",)


@dataclass(frozen=True, slots=True)
class Given:
    """What the container gets.

    Attributes:
        environment: all its variables.
        files: texts of its volumes, by volume and path; an empty volume has none.
        mounts: its ``volumeMounts``.
        notes: what is not as in the live one, in words.
    """

    environment: Mapping[str, str] = field(repr=False)
    files: Mapping[str, Mapping[str, str]] = field(repr=False)
    mounts: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]


class _Objects:
    """The ConfigMaps of the manifest, and its Secrets with nothing but keys."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """The texts of a ConfigMap."""
        del namespace
        return self._shape.config_maps.get(name)

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """A throw-away value for each key."""
        del namespace
        keys = self._shape.secrets.get(name)
        return None if keys is None else {key: throw_away(key) for key in sorted(keys)}


def prepare(shape: Shape, database_url: str, own: Mapping[str, str]) -> Given:
    """Everything that the container gets.

    Args:
        shape: Console as the manifest has it.
        database_url: of the restored copy, with its throw-away password.
        own: variables that the configuration gives.
    """
    inside = Container(shape.namespace, shape.pod, shape.container, _Objects(shape))
    kinds = {str(volume.get("name")): volume for volume in shape.pod.get("volumes") or []}
    mounts, files, notes = _mounted(shape, kinds)
    hidden = [
        str(mount["mountPath"]).rstrip("/")
        for mount in shape.container.get("volumeMounts") or []
        if not any(mount is kept for kept in mounts)
    ]
    environment: dict[str, str] = {}
    left_out: list[str] = []
    for name, value in inside.environment.items():
        text = value.text
        if is_outward(name) or any(text and text.startswith(place) for place in hidden):
            left_out += [name] if name != DATABASE_URL else []
        elif value.origin.kind == "secret" or (text and redaction.looks_secret(name)):
            environment[name] = throw_away(name)
        elif text is None:
            notes.append(f"{name} is not known here ({value.origin})")
        else:
            environment[name] = redaction.Redactor().urls(text)
    notes += [f"{one} is not known here: its variables are missing" for one in inside.unread]
    if left_out:
        notes.append(f"left out: {', '.join(sorted(left_out))}")
    environment = {**_NEEDED, _PASSWORD: throw_away(_PASSWORD), **environment, **own}
    environment[DATABASE_URL] = database_url
    return Given(environment, files, tuple(mounts), tuple(notes))


def is_outward(name: str) -> bool:
    """Whether a variable leads outside: to a database, to Kafka, to whoever checks a login, through a proxy."""
    plain = _plain(name)
    if plain in _PROXIES:
        return True
    return name.upper().startswith(_PREFIX) and plain.removeprefix("cdk").startswith(OUTWARD)


def throw_away(name: str) -> str:
    """A value that means nothing anywhere else, of the form that a variable of this name wants."""
    plain = _plain(name)
    if plain.endswith(("email", "mail")):
        return _NEEDED["CDK_ADMIN_EMAIL"]
    if plain.endswith(("name", "user")):
        return "rehearsal"
    return f"Aa1!{secrets.token_urlsafe(18)}"


def scrubbed(text: str) -> tuple[str, list[str]]:
    """A configuration file of Console without what leads outside, and with throw-away values for its secrets; and what was left out."""
    try:
        found = yaml_text.load(text)
    except yaml.YAMLError:
        return text, []
    if not isinstance(found, dict):
        return text, []
    gone = [str(key) for key, value in found.items() if value and _plain(str(key)).startswith(OUTWARD)]
    kept = {key: value for key, value in found.items() if not _plain(str(key)).startswith(OUTWARD)}
    if isinstance(kept.get("platform"), dict) and "https" in kept["platform"]:
        gone.append("platform.https")
        kept["platform"] = {key: value for key, value in kept["platform"].items() if key != "https"}
    return str(yaml.safe_dump(_without_secrets(kept, ""), sort_keys=False, allow_unicode=True)), sorted(gone)


def _without_secrets(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(one, str(key)) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_secrets(one, name) for one in value]
    if isinstance(value, str) and value and not value.startswith(_PLACE) and redaction.looks_secret(name):
        return throw_away(name)
    return redaction.Redactor().urls(value) if isinstance(value, str) else value


def _mounted(
    shape: Shape, volumes: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Mapping[str, Any]], dict[str, dict[str, str]], list[str]]:
    """Mounts that stay, what their volumes hold, and what is missing."""
    mounts: list[Mapping[str, Any]] = []
    files: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for mount in shape.container.get("volumeMounts") or []:
        name = str(mount.get("name"))
        volume = volumes.get(name) or {}
        if "secret" in volume or "projected" in volume:
            notes.append(f"nothing is mounted at {mount.get('mountPath')}, where a Secret is")
            continue
        mounts.append(mount)
        if name in files:
            continue
        files[name] = {}
        for path, text, gone in _texts(shape, volume):
            files[name][path] = text
            notes += [f"{path} is without {', '.join(gone)}"] if gone else []
        if "configMap" in volume and not files[name]:
            notes.append(
                f"ConfigMap {volume['configMap'].get('name')} is not known here: its files are missing"
            )
        elif "configMap" not in volume and "emptyDir" not in volume:
            kind = next((key for key in volume if key != "name"), "a volume")
            notes.append(f"{mount.get('mountPath')} is empty: its {kind} stays where it is")
    return mounts, files, notes


def _texts(shape: Shape, volume: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    source = volume.get("configMap") or {}
    texts = shape.config_maps.get(str(source.get("name"))) or {}
    items = source.get("items") or [{"key": key, "path": key} for key in texts]
    for item in items:
        text = texts.get(str(item.get("key")))
        if text is not None:
            path = str(item.get("path"))
            yield (path, *scrubbed(text)) if path.endswith((".yaml", ".yml")) else (path, text, [])


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(".", "")
