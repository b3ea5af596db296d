"""The section ``cluster``: how the Kubernetes API is reached."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dr_toolkit.config.section import OF_PARENT, Section
from dr_toolkit.config.values import LocalPath, Text


class ClusterConfig(Section):
    """How to reach the Kubernetes API. Without this section: the pod's own service account where there is one, else kubectl's configuration."""

    kubeconfig: LocalPath | None = None
    """The kubeconfig file. Default: what `KUBECONFIG` names, else `~/.kube/config`."""
    context: Text | None = None
    """The kubeconfig's context. Default: its current one."""
    in_cluster: bool | None = Field(default=None, strict=True)
    """`true`: the pod's service account, nothing else. `false`: the kubeconfig, even in a pod. Default: the service account where its files exist."""

    @field_validator("in_cluster")
    @classmethod
    def _one_way(cls, value: bool | None, info: ValidationInfo) -> bool | None:
        if value and (info.data.get("kubeconfig") or info.data.get("context")):
            raise PydanticCustomError(
                OF_PARENT, "in_cluster means the pod's service account; give it, or a kubeconfig and context"
            )
        return value

    @property
    def names_a_kubeconfig(self) -> bool:
        """Whether the file's author chose the kubeconfig."""
        return self.in_cluster is False or self.kubeconfig is not None or self.context is not None
