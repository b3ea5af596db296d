"""What a container is given: the directories of a Pod's volumes, and its environment."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from devstack import kubeconfig
from devstack.kube_api import KubeApi, KubeError

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
# Many programs have paths below it that are not the Pod's.
NOT_REWRITTEN = {"/tmp", "/dev/shm"}
UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
NOT_FOUND = 404


class NotYetError(Exception):
    """Something that a Pod refers to is missing; it is looked for again."""


def amount(quantity: str) -> float:
    """Read a quantity.

    Args:
        quantity: such as ``512Mi`` or ``250m``.

    Returns:
        The number.
    """
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(quantity))
    if not found:
        return 0.0
    number, unit = found.groups()
    return float(number) / 1000 if unit == "m" else float(number) * UNITS.get(unit, 1)


class Volumes:
    """The volumes of one Pod.

    Args:
        api: where objects are read.
        pod: the Pod.
        directory: where they lie.
    """

    def __init__(self, api: KubeApi, pod: Mapping[str, Any], directory: Path) -> None:
        self._api = api
        self._pod = pod
        self._namespace = pod["metadata"]["namespace"]
        self._directory = directory
        self._places: dict[str, Path] = {}
        self._made = False

    def make(self) -> None:
        """Make all of them.

        Raises:
            NotYetError: an object is missing.
        """
        # All are read before the first is made: what is missing is looked for again, and then for all of them.
        wanted = {volume["name"]: volume for volume in self._pod["spec"].get("volumes", [])}
        found = {name: self._files(volume) for name, volume in wanted.items()}
        for name, volume in wanted.items():
            self._places[name] = self._claimed(volume) or self._empty(name)
        written = [
            (self._places[name], files, _mode(wanted[name]))
            for name, files in found.items()
            if files is not None
        ]
        mounts = self.mounts([*self._pod["spec"].get("initContainers", []), *self._pod["spec"]["containers"]])
        for place, files, mode in written:
            for path, content in files.items():
                target = place / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_rewritten_bytes(content, mounts))
                target.chmod(mode)
        self._made = True

    def mounts(self, containers: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Say where mount paths are in truth.

        Args:
            containers: whose.

        Returns:
            The directory or file of each mount path.
        """
        found = {}
        for container in containers:
            for mount in container.get("volumeMounts", []):
                place = self._places[mount["name"]]
                inside = mount.get("subPath")
                if inside and self._made and not (place / inside).exists():
                    (place / inside).mkdir(parents=True)
                    (place / inside).chmod(0o777)
                found[mount["mountPath"].rstrip("/")] = str(place / inside if inside else place)
        return found

    def remove(self) -> None:
        """Delete what was written; volumes of claims stay."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _empty(self, name: str) -> Path:
        place = self._directory / name
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
        return place

    def _claimed(self, volume: Mapping[str, Any]) -> Path | None:
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        if not claim:
            return None
        path = f"/api/v1/namespaces/{self._namespace}/persistentvolumeclaims/{claim}"
        bound = self._read(path, optional=False)["spec"]["volumeName"]
        place = Path(
            self._read(f"/api/v1/persistentvolumes/{bound}", optional=False)["spec"]["hostPath"]["path"]
        )
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o777)
        return place

    def _files(self, volume: Mapping[str, Any]) -> dict[str, bytes] | None:
        """The content of a volume that has one from the start; None for an empty one."""
        if "configMap" in volume:
            return self._of_object(volume["configMap"], "configmaps", volume["configMap"]["name"])
        if "secret" in volume:
            return self._of_object(volume["secret"], "secrets", volume["secret"]["secretName"])
        if "downwardAPI" in volume:
            return self._downward(volume["downwardAPI"])
        if "projected" not in volume:
            return None
        files: dict[str, bytes] = {}
        for source in volume["projected"]["sources"]:
            if "serviceAccountToken" in source:
                files |= self._token(source["serviceAccountToken"])
            elif "downwardAPI" in source:
                files |= self._downward(source["downwardAPI"])
            else:
                plural = "configmaps" if "configMap" in source else "secrets"
                reference = source.get("configMap") or source["secret"]
                files |= self._of_object(reference, plural, reference["name"])
        return files

    def _token(self, wanted: Mapping[str, Any]) -> dict[str, bytes]:
        account = self._pod["spec"].get("serviceAccountName", "default")
        bound = {
            "kind": "Pod",
            "apiVersion": "v1",
            "name": self._pod["metadata"]["name"],
            "uid": self._pod["metadata"]["uid"],
        }
        spec = {"expirationSeconds": wanted.get("expirationSeconds", 3600), "boundObjectRef": bound}
        if wanted.get("audience"):
            spec["audiences"] = [wanted["audience"]]
        path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token"
        token = self._api.create(path, {"spec": spec})["status"]["token"]
        return {wanted["path"]: token.encode()}

    def _downward(self, wanted: Mapping[str, Any]) -> dict[str, bytes]:
        return {
            item["path"]: field(self._pod, item["fieldRef"]["fieldPath"]).encode()
            for item in wanted.get("items", [])
            if "fieldRef" in item
        }

    def _of_object(self, reference: Mapping[str, Any], plural: str, name: str) -> dict[str, bytes]:
        path = f"/api/v1/namespaces/{self._namespace}/{plural}/{name}"
        found = content(self._read(path, optional=reference.get("optional", False)))
        items = reference.get("items")
        return {item["path"]: found[item["key"]] for item in items} if items else found

    def _read(self, path: str, *, optional: bool) -> Any:
        try:
            return self._api.get(path)
        except KubeError as error:
            if error.status != NOT_FOUND:
                raise
            if optional:
                return {}
            raise NotYetError(f"{path.rpartition('/')[2]} not found") from error


def _mode(volume: Mapping[str, Any]) -> int:
    """The mode of a volume's files, without the group: a node gives that to the Pod's own group, and here there is none."""
    source = volume.get("secret") or volume.get("configMap") or {}
    return int(source.get("defaultMode", 0o644)) & ~0o070


def content(found: Mapping[str, Any]) -> dict[str, bytes]:
    """Read the entries of a ConfigMap or a Secret.

    Args:
        found: the object; empty for one that is missing.

    Returns:
        The entries.
    """
    if found.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in found.get("data", {}).items()}
    texts = {key: value.encode() for key, value in found.get("data", {}).items()}
    return texts | {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}


def field(pod: Mapping[str, Any], path: str) -> str:
    """Read a field of a Pod as the downward API does.

    Args:
        pod: the Pod.
        path: such as ``metadata.labels['app']`` or ``status.podIP``.

    Returns:
        Its text; empty where it is missing.
    """
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return str(pod["metadata"].get(keyed.group(1), {}).get(keyed.group(2), ""))
    value: Any = pod
    for word in path.split("."):
        value = value.get(word, {}) if isinstance(value, Mapping) else {}
    return str(value) if value else ""


def rewriter(mounts: Mapping[str, str]) -> Callable[[str], str]:
    """Make a function that replaces mount paths by where they are in truth.

    Args:
        mounts: the directory of each mount path.

    Returns:
        The function.
    """
    paths = sorted((path for path in mounts if path not in NOT_REWRITTEN), key=len, reverse=True)
    if not paths:
        return lambda text: text
    wanted = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, paths))})(?![\w.-])")
    return lambda text: wanted.sub(lambda found: mounts[found.group(1)], text)


def _rewritten_bytes(raw: bytes, mounts: Mapping[str, str]) -> bytes:
    try:
        return rewriter(mounts)(raw.decode()).encode()
    except UnicodeDecodeError:
        return raw


class Environment:
    """Works out the environment of a container.

    Args:
        api: where objects are read.
        pod: the Pod, with its address in the status.
    """

    def __init__(self, api: KubeApi, pod: Mapping[str, Any]) -> None:
        self._api = api
        self._pod = pod

    def of(self, container: Mapping[str, Any], mounts: Mapping[str, str], home: Path) -> dict[str, str]:
        """Work it out.

        Args:
            container: of the Pod.
            mounts: the directory of each mount path.
            home: a directory of the container's own.

        Returns:
            All variables.

        Raises:
            NotYetError: an object or a key is missing.
        """
        host, _, port = self._api.url.removeprefix("https://").rpartition(":")
        found = {
            "HOSTNAME": self._pod["metadata"]["name"],
            "HOME": str(home),
            "TMPDIR": mounts.get("/tmp", str(home)),
            "DEVSTACK_POD_IP": self._pod["status"]["podIP"],
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "KUBERNETES_SERVICE_PORT_HTTPS": port,
        }
        if SERVICE_ACCOUNT in mounts:
            found["KUBECONFIG"] = str(self._kubeconfig(mounts[SERVICE_ACCOUNT], home))
        for source in container.get("envFrom", []):
            prefix = source.get("prefix", "")
            plural = "configmaps" if "configMapRef" in source else "secrets"
            reference = source.get("configMapRef") or source["secretRef"]
            entries = self._entries(plural, reference) or {}
            found |= {prefix + key: value.decode() for key, value in entries.items()}
        for variable in container.get("env", []):
            value = self._value(variable, container)
            if value is not None:
                found[variable["name"]] = expanded(value, found)
        rewrite = rewriter(mounts)
        return {
            name: value if name in {"HOME", "TMPDIR"} else rewrite(value) for name, value in found.items()
        }

    def _kubeconfig(self, directory: str, home: Path) -> Path:
        """Where the token's usual path is not ours to write, this leads to it: the same identity, by the same file."""
        user = {"tokenFile": f"{directory}/token"}
        place = Path(directory)
        return kubeconfig.write(
            home / "kubeconfig", self._api.url, place / "ca.crt", user, self._pod["metadata"]["namespace"]
        )

    def _value(self, variable: Mapping[str, Any], container: Mapping[str, Any]) -> str | None:
        source = variable.get("valueFrom")
        if not source:
            return str(variable.get("value", ""))
        if "fieldRef" in source:
            return field(self._pod, source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            kind, _, name = source["resourceFieldRef"]["resource"].partition(".")
            return str(int(amount(container.get("resources", {}).get(kind, {}).get(name, "0"))))
        plural = "configmaps" if "configMapKeyRef" in source else "secrets"
        reference = source.get("configMapKeyRef") or source["secretKeyRef"]
        entries = self._entries(plural, reference)
        if entries is None or reference["key"] not in entries:
            if reference.get("optional"):
                return None
            raise NotYetError(f"couldn't find key {reference['key']} in {plural} {reference['name']}")
        return entries[reference["key"]].decode()

    def _entries(self, plural: str, reference: Mapping[str, Any]) -> dict[str, bytes] | None:
        path = f"/api/v1/namespaces/{self._pod['metadata']['namespace']}/{plural}/{reference['name']}"
        try:
            return content(self._api.get(path))
        except KubeError as error:
            if error.status != NOT_FOUND:
                raise
            if reference.get("optional"):
                return None
            raise NotYetError(f'{plural.removesuffix("s")} "{reference["name"]}" not found') from error


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: unknown names stay, ``$$`` is a dollar.

    Args:
        text: a value or an argument.
        environment: the variables.

    Returns:
        The text.
    """
    return re.sub(
        r"\$\$|\$\((\w[\w.-]*)\)",
        lambda found: "$" if found.group(0) == "$$" else environment.get(found.group(1), found.group(0)),
        text,
    )
