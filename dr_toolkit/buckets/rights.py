"""Which right a request to an S3 server needs, in the words of Amazon's policies: an error says what to grant."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

_TAGS = "x-amz-tagging"
_OF_BUCKET = {
    "versions": "s3:ListBucketVersions",
    "versioning": "s3:GetBucketVersioning",
    "object-lock": "s3:GetBucketObjectLockConfiguration",
}
_OF_CONTROL = {
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "complete_multipart_upload": "s3:PutObject",
    "copy_object": "s3:GetObject on the source and s3:PutObject on the target",
    "create_bucket": "s3:CreateBucket",
    "create_multipart_upload": "s3:PutObject",
    "delete_bucket": "s3:DeleteBucket",
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "get_object_tagging": "s3:GetObjectTagging",
    "list_buckets": "s3:ListAllMyBuckets",
    "upload_part_copy": "s3:GetObject on the source and s3:PutObject on the target",
}


def of_request(method: str, key: str, query: str, headers: Mapping[str, str]) -> str:
    """The right that a request needs.

    Args:
        method: HTTP's.
        key: the object's; empty for a question about the bucket.
        query: encoded, without ``?``.
        headers: of the request.
    """
    asked = parse_qs(query, keep_blank_values=True)
    if not key:
        return next((right for name, right in _OF_BUCKET.items() if name in asked), "s3:ListBucket")
    if method == "PUT":
        return "s3:PutObject and s3:PutObjectTagging" if _TAGS in headers else "s3:PutObject"
    return "s3:GetObjectVersion" if "versionId" in asked else "s3:GetObject"


def of_control(operation: str, parameters: Mapping[str, object]) -> str:
    """The right that a control call needs.

    Args:
        operation: boto3's name of it.
        parameters: boto3's.
    """
    right = _OF_CONTROL.get(operation, "")
    if operation == "get_object_tagging" and "VersionId" in parameters:
        return "s3:GetObjectVersionTagging"
    return f"{right} and s3:PutObjectTagging" if "Tagging" in parameters else right
