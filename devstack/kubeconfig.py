"""Write the file that ``kubectl``, Helm and drctl read to find a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def write(path: Path, url: str, ca_file: Path, user: Mapping[str, Any], namespace: str) -> Path:
    """Write a kubeconfig with one cluster, one user and one context, each named ``devstack``.

    Args:
        path: where; readable only for us.
        url: the API server.
        ca_file: the authority to trust.
        user: how the user logs in: ``token``, or ``client-certificate`` and ``client-key``, or ``exec``.
        namespace: of the context.

    Returns:
        The path.
    """
    name = "devstack"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority": str(ca_file)}}],
        "users": [{"name": name, "user": dict(user)}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
    }
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path
