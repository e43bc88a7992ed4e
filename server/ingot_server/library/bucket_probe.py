"""What a bucket must allow and keep to, tried on an object of its own: `probe/<random>`.

Every process does this when it starts, and `ingot-server doctor` shows what came out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from minio.error import S3Error

from ingot_server.findings import Finding, ok, problem, warning
from ingot_server.library.checksums import ALGORITHM_HEADER, Checksum, Crc32, Md5
from ingot_server.library.conditional_writes import put
from ingot_server.library.s3 import S3

FOLDER: Final = "probe/"

T = TypeVar("T")

_VERSIONED: Final = "Enabled"
_DENIED: Final = frozenset({"AccessDenied", "AllAccessDisabled", "MethodNotAllowed"})


@dataclass(slots=True)
class BucketProbe:
    """What was found, and how the server tells whether it has got what was sent."""

    findings: list[Finding] = field(default_factory=list)
    etag_is_md5: bool = False
    """Not if objects are encrypted with the keys of a KMS."""
    checks_crc32: bool = False
    """Whether it refuses a part that does not have the CRC32 that was announced."""


def probe_bucket(s3: S3) -> BucketProbe:
    """Try the keys and the conditional writes on a bucket that exists.

    Raises what the SDK raises if the server cannot be reached or is not S3.
    """
    key = f"{FOLDER}{secrets.token_hex(16)}"
    found = BucketProbe()
    denied: list[str] = []
    etag = _allowed(
        "write to", denied, partial(put, s3, s3.small, key, b"1", "text/plain", if_none_match=True)
    )
    if not denied:
        found.etag_is_md5 = etag == str(Md5(b"1"))
        _allowed("read", denied, partial(_read, s3, key))
        _allowed("list", denied, partial(_list, s3, key))
        try:
            honoured = _honours_conditions(s3, key, etag or "")
        finally:
            _allowed("delete from", denied, partial(_remove, s3, key))
        if honoured and "delete from" not in denied:
            honoured = _can_be_created_again(s3, key)
        found.checks_crc32 = bool(
            _allowed("abort uploads in", denied, partial(_checks_crc32_of_parts, s3, key))
        )
        found.findings.append(_conditions(s3, honoured=honoured))
    found.findings.append(_keys(s3, denied))
    return found


def check_versioning(s3: S3) -> Finding:
    """Tell whether the bucket keeps what is deleted. It may have to be read with other keys."""
    name = "versioning"
    try:
        status = s3.small.client.get_bucket_versioning(s3.bucket).status
    except S3Error as error:
        if error.code == "NotImplemented":
            return ok(name, "The server has no versions, so what is deleted is gone.")
        if error.code not in _DENIED:
            raise
        return warning(
            name,
            "These keys may not read whether the bucket is versioned.",
            "Allow s3:GetBucketVersioning, or make sure that versioning is off.",
        )
    if status != _VERSIONED:
        return ok(name, "The bucket is not versioned, so what is deleted is gone.")
    return warning(
        name,
        f"The bucket {s3.bucket} is versioned: deleted and replaced files stay, with all their "
        "space, where Ingot and its gc do not see them.",
        "Suspend versioning, or add a lifecycle rule that removes noncurrent versions and delete "
        "markers.",
    )


def _honours_conditions(s3: S3, key: str, etag: str) -> bool:
    return (
        bool(etag)
        and put(s3, s3.small, key, b"2", "text/plain", if_none_match=True) is None
        and put(s3, s3.small, key, b"3", "text/plain", if_match="0" * 32) is None
        and put(s3, s3.small, key, b"4", "text/plain", if_match=etag) is not None
    )


def _can_be_created_again(s3: S3, key: str) -> bool:
    # In a versioned bucket a deleted object leaves a marker, which must not count as an object.
    created = put(s3, s3.small, key, b"5", "text/plain", if_none_match=True) is not None
    _remove(s3, key)
    return created


def _conditions(s3: S3, *, honoured: bool) -> Finding:
    name = "conditions"
    if honoured:
        return ok(name, "The bucket honours conditional writes, so only one of two commits wins.")
    return problem(
        name,
        f"The S3 server at {s3.endpoint} does not honour conditional writes (If-None-Match and "
        "If-Match on PUT, with the ETag that it returned), which Ingot needs to commit media.",
        "Use a server that does, such as MinIO, SeaweedFS, AWS S3 or Cloudflare R2; a proxy in "
        "front of it must forward these headers.",
        stops_start=True,
    )


def _keys(s3: S3, denied: list[str]) -> Finding:
    name = "S3 keys"
    if not denied:
        return ok(name, "The keys may list, read, write and delete, and upload in parts.")
    return problem(
        name,
        f"The keys in INGOT_S3_ACCESS_KEY and INGOT_S3_SECRET_KEY may not {', '.join(denied)} "
        f"the bucket {s3.bucket}.",
        "Allow them s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload, "
        "s3:ListBucket and s3:ListBucketMultipartUploads, or use other keys.",
        stops_start=True,
    )


def _allowed(operation: str, denied: list[str], work: Callable[[], T]) -> T | None:
    """Return the result of `work`; None, and one more entry in `denied`, if the keys may not."""
    try:
        return work()
    except S3Error as error:
        if error.code not in _DENIED:
            raise
        denied.append(operation)
        return None


def _read(s3: S3, key: str) -> None:
    response = s3.small.client.get_object(s3.bucket, s3.object_name(key))
    try:
        response.read()
    finally:
        response.close()
        response.release_conn()


def _remove(s3: S3, key: str) -> None:
    s3.small.client.remove_object(s3.bucket, s3.object_name(key))


def _list(s3: S3, key: str) -> None:
    next(iter(s3.small.client.list_objects(s3.bucket, s3.object_name(key))), None)


def _checks_crc32_of_parts(s3: S3, key: str) -> bool:
    # The SDK has no public methods for these.
    client, name = s3.small.client, s3.object_name(key)
    try:
        upload_id = client._create_multipart_upload(s3.bucket, name, {ALGORITHM_HEADER: "CRC32"})  # noqa: SLF001
    except S3Error as error:
        if error.code in _DENIED:
            raise
        # It does not know the header.
        upload_id = client._create_multipart_upload(s3.bucket, name, {})  # noqa: SLF001
    query = {"partNumber": "1", "uploadId": upload_id}

    def accepts(checksum: Checksum) -> bool:
        sent = s3.put(s3.small, key, b"1", checksum, size=1, headers={}, query=query)
        return sent.status == 200

    try:
        checks = not accepts(Crc32(b"2")) and accepts(Crc32(b"1"))
        client._list_multipart_uploads(s3.bucket, prefix=name)  # noqa: SLF001
    finally:
        client._abort_multipart_upload(s3.bucket, name, upload_id)  # noqa: SLF001
    return checks
