"""``drctl discover``."""

from __future__ import annotations

from pathlib import Path

import click

from dr_toolkit.cli.context import Context
from dr_toolkit.cli.options import common, epilog


@click.command(
    "discover",
    epilog=epilog(
        "drctl discover -n conduktor > drctl.yaml",
        "drctl discover -n conduktor | drctl -c /dev/stdin config check",
        "drctl discover --context production -n conduktor -n conduktor-gateway",
        "drctl discover --output json",
        codes=(0, 1, 2, 5),
    ),
)
@click.option(
    "-n",
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAMESPACE",
    help="Look here (may be given several times). Without it: everywhere.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The kubeconfig. Without it: the pod's service account where there is one, else kubectl's configuration.",
)
@click.option("--context", "cluster_context", metavar="NAME", help="The kubeconfig's context.")
@common
@click.pass_obj
def command(
    context: Context, namespaces: tuple[str, ...], kubeconfig: Path | None, cluster_context: str | None
) -> None:
    """Read what runs in the cluster, and print a drctl.yaml for this platform.

    It looks for Conduktor Console and Gateway, works out their databases, buckets, TLS and Secrets from what their pods see and from their Helm
    releases' values, and says what it could not find, and what nothing protects. A release whose workloads were deleted is found as well. It reads
    Deployments, StatefulSets, ConfigMaps and Secrets, and changes nothing; no secret is printed. Needs no configuration.
    """
    context.configure_log()
    from dr_toolkit.cluster.client import Cluster
    from dr_toolkit.config import ClusterConfig
    from dr_toolkit.jobs import discover as job
    from dr_toolkit.reporting import discovered

    where = ClusterConfig(kubeconfig=str(kubeconfig) if kubeconfig else None, context=cluster_context)
    with Cluster(where) as cluster:
        found = job.run(cluster, tuple(dict.fromkeys(namespaces)))
    context.emit(discovered.document(found), discovered.text(found))
