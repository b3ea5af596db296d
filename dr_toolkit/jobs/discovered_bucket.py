"""Which bucket Console's metrics (Cortex) live in.

Source: Conduktor's documentation of Cortex: ``CDK_MONITORING_STORAGE_S3_ENDPOINT``, ``_REGION``, ``_BUCKET``, ``_INSECURE``, ``_ACCESSKEYID``,
``_SECRETACCESSKEY`` (absent: the pod's own identity); the other storages are ``GCS``, ``AZURE``, ``SWIFT``; none: a directory in the pod.
"""

from __future__ import annotations

from dr_toolkit.cluster.properties import Properties
from dr_toolkit.jobs.discovered_database import credential, variable
from dr_toolkit.jobs.proposal import Credential, Field, Proposal

_S3 = "monitoring.storage.s3"
_OTHERS = {"gcs": "Google Cloud Storage", "azure": "Azure Blob Storage", "swift": "OpenStack Swift"}


def propose(name: str, properties: Properties) -> tuple[Proposal | None, tuple[str, ...]]:
    """Make a ``bucket`` component of Cortex' settings.

    Returns:
        The component, if the metrics lie in S3; and what is missing.
    """
    bucket = properties.get(f"{_S3}.bucket")
    if bucket is None:
        for other, words in _OTHERS.items():
            if properties.has(f"monitoring.storage.{other}"):
                return None, (f"Cortex keeps its metrics in {words}, which drctl does not back up",)
        return None, (
            "Cortex has no object storage: its metrics lie in the pod's own volume, and nothing here protects them",
        )
    missing: list[str] = []
    if not bucket.text:
        missing.append(
            f"the bucket's name was not found: it lies in {bucket.origin}, which could not be read"
        )
    credentials: list[Credential] = []
    below = _server(name, properties, credentials, missing)
    fields = [Field("kind", "bucket"), Field("url", f"s3://{bucket.text or 'not-found'}")]
    if below:
        fields.append(Field("s3", tuple(below)))
    fields.append(Field("schedule", "30 2 * * *"))
    about = (
        "Cortex' metrics. The newest 1 to 3 hours are only in its pod; alerts' definitions are in the main database.",
        "Never keep the repository in this bucket, nor on this server if its pod has no volume.",
    )
    return Proposal(name, about, tuple(fields), tuple(credentials), tuple(missing)), ()


def _server(
    name: str, properties: Properties, credentials: list[Credential], missing: list[str]
) -> list[Field]:
    fields: list[Field] = []
    endpoint = properties.text(f"{_S3}.endpoint")
    if endpoint:
        insecure = (properties.text(f"{_S3}.insecure") or "false").lower() == "true"
        url = endpoint if "://" in endpoint else f"{'http' if insecure else 'https'}://{endpoint}"
        fields.append(Field("endpoint", url, "no TLS (insecure: true)" if url.startswith("http:") else ""))
    elif properties.get(f"{_S3}.endpoint") is not None:
        missing.append("the S3 server's endpoint could not be read")
    region = properties.text(f"{_S3}.region")
    if region:
        fields.append(Field("region", region))
    key, key_secret = properties.get(f"{_S3}.accesskeyid"), properties.get(f"{_S3}.secretaccesskey")
    if key is not None and key_secret is not None:
        for field, value, what in (
            ("access_key_id", key, "ACCESS_KEY_ID"),
            ("secret_access_key", key_secret, "SECRET_ACCESS_KEY"),
        ):
            credentials.append(credential(name, what, value.origin))
            fields.append(Field(field, f"env:{variable(name, what)}", str(value.origin)))
    else:
        missing.append(
            "no access key was found: Cortex uses its pod's own identity, and drctl needs one of its own"
        )
    return fields
