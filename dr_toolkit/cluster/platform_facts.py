"""What of a Conduktor Platform is lost in a disaster although everything was backed up: Secrets that nobody makes again, and Gateway's topics. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dr_toolkit.cluster.secret_facts import Origin

SIGNING_KEY = "GATEWAY_USER_POOL_SECRET_KEY"
TRUSTSTORE = "truststore.jks"
ROOT_CA = "root-ca-secret"
BUNDLE = "bundle-truststore"
_GATEWAY_TOPICS = {
    "GATEWAY_LICENSE_TOPIC": "license",
    "GATEWAY_TOPIC_MAPPINGS_TOPIC": "topicmappings",
    "GATEWAY_USER_MAPPINGS_TOPIC": "usermappings",
    "GATEWAY_CONSUMER_OFFSETS_TOPIC": "consumer_offsets",
    "GATEWAY_INTERCEPTOR_CONFIGS_TOPIC": "interceptor_configs",
    "GATEWAY_ENCRYPTION_CONFIGS_TOPIC": "encryption_configs",
    "GATEWAY_ACLS_TOPIC": "acls",
    "GATEWAY_VCLUSTERS_TOPIC": "vclusters",
    "GATEWAY_GROUPS_TOPIC": "groups",
    "GATEWAY_ENCRYPTION_KEYS_TOPIC": "encryption_keys",
    "GATEWAY_AUDIT_LOG_TOPIC": "auditlogs",
    "GATEWAY_DATA_QUALITY_TOPIC": "data_quality_violation",
}
"""Environment variable that names a topic, and the end of its default name."""
CLUSTER_ID = "GATEWAY_CLUSTER_ID"


def gateway_topics(environment: Mapping[str, str] | None = None) -> list[str]:
    """The Kafka topics in which Gateway keeps its state.

    Args:
        environment: of one Gateway, where it is known.
    """
    given = environment or {}
    cluster = given.get(CLUSTER_ID) or "gateway"
    return [given.get(variable) or f"_conduktor_{cluster}_{end}" for variable, end in _GATEWAY_TOPICS.items()]


@dataclass(frozen=True, slots=True)
class Known:
    """A Secret as far as this matters.

    Attributes:
        namespace: where.
        name: its name.
        keys: names of its keys.
        origin: who makes it.
    """

    namespace: str
    name: str
    keys: tuple[str, ...]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Irreplaceable:
    """A value without which a platform is lost, or much of it.

    Attributes:
        secret: which.
        key: the one that matters; empty for all.
        why: what is lost with it.
    """

    secret: Known
    key: str
    why: str

    @property
    def reference(self) -> str:
        """As ``include_values`` has it."""
        if not self.key:
            return f"{{name: {self.secret.name}, namespace: {self.secret.namespace}}}"
        return f"{{name: {self.secret.name}, namespace: {self.secret.namespace}, keys: [{self.key}]}}"


def irreplaceable(secrets: Iterable[Known], kept: Callable[[str, str, str], bool]) -> list[Irreplaceable]:
    """Values that nobody makes again and no snapshot keeps.

    Args:
        secrets: what is live.
        kept: whether the value of (namespace, Secret, key) is kept.
    """
    found = []
    for one in secrets:
        for key, why in _reasons(one):
            if not kept(one.namespace, one.name, key):
                found.append(Irreplaceable(one, key, why))
    return found


def _reasons(one: Known) -> Iterable[tuple[str, str]]:
    if SIGNING_KEY in one.keys and one.origin.by == "helm":
        yield (
            SIGNING_KEY,
            (
                "the chart made it and finds it again only in this Secret; without it a reinstall makes another one, and every token of a local "
                "service account is invalid, those in Console's database as well"
            ),
        )
    elif SIGNING_KEY in one.keys and one.origin.by == "by hand":
        yield (
            SIGNING_KEY,
            "nobody makes it again; with another one every token of a local service account is invalid, those in Console's database as well",
        )
    if one.name == BUNDLE or (TRUSTSTORE in one.keys and one.origin.by == "by hand"):
        yield (
            TRUSTSTORE if TRUSTSTORE in one.keys else "",
            "a script made it, and neither Helm nor cert-manager makes it again: nothing that mounts it starts",
        )
    if one.name == ROOT_CA:
        yield (
            "",
            "it signs every certificate of the platform; a new one means new certificates and truststores everywhere",
        )
