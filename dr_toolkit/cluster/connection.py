"""Finding the API server and proving who we are. The only file that imports the ``kubernetes`` library.

It knows every way to log in: a pod's service account, kubeconfig with contexts, exec plugins, client certificates, proxies.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from kubernetes.client import Configuration
from kubernetes.client.rest import RESTClientObject
from kubernetes.config import incluster_config, kube_config
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from dr_toolkit import errors, log
from dr_toolkit.config import ClusterConfig

_CONNECTIONS = 16


class Connection:
    """One way to the server, with the credentials that were good when it was made."""

    def __init__(self, config: ClusterConfig) -> None:
        self._config = config
        self.configuration = _configuration(config)
        self.configuration.connection_pool_maxsize = _CONNECTIONS
        _introduce(self.configuration)
        try:
            self.pool: Any = RESTClientObject(self.configuration).pool_manager
        except (HTTPError, ValueError) as error:
            raise _no_way(f"the proxy cannot be used: {error}") from error
        self.host = str(self.configuration.host).rstrip("/")
        self._masked = ""

    @property
    def namespace(self) -> str:
        """Of the service account, or of the kubeconfig's context; empty where none is named."""
        try:
            if _in_cluster(self._config):
                return (
                    Path(incluster_config.SERVICE_TOKEN_FILENAME).with_name("namespace").read_text().strip()
                )
            contexts, current = kube_config.list_kube_config_contexts(config_file=_file(self._config))
        except (ConfigException, OSError):
            return ""
        wanted = self._config.context
        chosen = next((one for one in contexts if one.get("name") == wanted), None) if wanted else current
        return str(((chosen or {}).get("context") or {}).get("namespace") or "")

    def authorization(self) -> dict[str, str]:
        """The header that says who asks. A service account's token is read from its file again after a minute."""
        try:
            token = self.configuration.get_api_key_with_prefix("BearerToken")
        except (ConfigException, OSError) as error:
            raise _no_way(str(error)) from error
        if not token:
            return {}
        if token != self._masked:
            log.mask(str(token).partition(" ")[2])
            self._masked = str(token)
        return {"Authorization": str(token)}


def _configuration(config: ClusterConfig) -> Configuration:
    made = Configuration()
    made.retries = False
    try:
        if _in_cluster(config):
            incluster_config.load_incluster_config(made)
            return made
        with _library_complaints() as complaints:
            kube_config.load_kube_config(
                config_file=_file(config),
                context=config.context,
                client_configuration=made,
                persist_config=False,
            )
    except ConfigException as error:
        raise _no_way(str(error)) from error
    except Exception as error:  # the library lets through what any part of a broken file raises
        raise _no_way(f"the kubeconfig cannot be used ({type(error).__name__})") from error
    if complaints:
        raise _no_way(complaints[0])
    if not made.host or made.host.rstrip("/") == "http://localhost":
        raise _no_way("the kubeconfig names no server")
    return made


def _introduce(made: Configuration) -> None:
    """Give a proxy the user and password that its URL has: the connections' library leaves them out."""
    parts = urlsplit(made.proxy or "")
    if parts.scheme.startswith("socks") and find_spec("socks") is None:
        raise _no_way("a SOCKS proxy needs the Python package PySocks, which is not installed")
    if not parts.username or made.proxy_headers or parts.scheme.startswith("socks"):
        return
    user, password = unquote(parts.username), unquote(parts.password or "")
    log.mask(password)
    made.proxy_headers = make_headers(proxy_basic_auth=f"{user}:{password}")
    made.proxy = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _in_cluster(config: ClusterConfig) -> bool:
    """Whether the pod's service account is used: because it was asked for, or because it is there."""
    there = (
        Path(incluster_config.SERVICE_TOKEN_FILENAME).is_file()
        and incluster_config.SERVICE_HOST_ENV_NAME in os.environ
    )
    return bool(config.in_cluster) or (there and not config.names_a_kubeconfig)


def _file(config: ClusterConfig) -> str:
    return config.kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


@contextmanager
def _library_complaints() -> Iterator[list[str]]:
    """What the library logs instead of raising it: that an exec plugin failed."""
    heard: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    root, ear = logging.getLogger(), Ear(logging.ERROR)
    root.addHandler(ear)
    try:
        yield heard
    finally:
        root.removeHandler(ear)


def _no_way(reason: str) -> errors.ConfigError:
    first = log.masked(reason.strip().splitlines()[0][:300] if reason.strip() else "unknown")
    return errors.ConfigError(
        f"no way to the Kubernetes API: {first}",
        hint="in a pod: mount its service account's token; elsewhere: set `cluster.kubeconfig` and `cluster.context`, or KUBECONFIG",
    )
