"""Paths of the kinds that this room reads."""

from __future__ import annotations

SECRETS = "api/v1/secrets"
CONFIG_MAPS = "api/v1/configmaps"
PODS = "api/v1/pods"
DEPLOYMENTS = "apis/apps/v1/deployments"
STATEFUL_SETS = "apis/apps/v1/statefulsets"
DAEMON_SETS = "apis/apps/v1/daemonsets"

WORKLOADS = (("Deployment", DEPLOYMENTS), ("StatefulSet", STATEFUL_SETS), ("DaemonSet", DAEMON_SETS))

PAGE_BYTES = 4 << 20
"""A page of objects that may have 1 MiB each."""

METADATA_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
"""``accept`` of a list whose objects' content is not wanted."""
