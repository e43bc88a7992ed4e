"""Conditional writes (RFC 9110, section 13), by which the bucket lets only one commit win."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from minio.error import S3Error

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.call_pool import CallPool
from ingot_server.library.s3 import ABSENT, S3, error_of, etag_of


def put(
    s3: S3,
    pool: CallPool,
    key: str,
    data: bytes,
    content_type: str,
    *,
    if_none_match: bool = False,
    if_match: str = "",
    lifetime: timedelta | None = None,
) -> str | None:
    """Write an object in one step; return its ETag, or None if the condition fails.

    The server refuses a PUT that arrives after `lifetime`, if one is given.
    """
    headers = {"Content-Type": content_type}
    if if_none_match:
        headers["If-None-Match"] = "*"
    if if_match:
        headers["If-Match"] = f'"{if_match}"'
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    response = s3.put(pool, key, data, digest, headers=headers, lifetime=lifetime)
    if response.status == 200:
        return etag_of(response)
    # 409: S3 may refuse either of two conditional writers at the same moment.
    if (if_none_match or if_match) and response.status in (409, 412):
        return None
    error = error_of(response)
    if if_match and isinstance(error, S3Error) and error.code == ABSENT:
        return None
    raise error


def check_conditional_writes(s3: S3) -> bool:
    """Try every condition on an object of its own, `probe/<random>`, and remove it.

    Raises Failure STORAGE_UNAVAILABLE if a condition is ignored. Returns whether ETags are made of
    MD5; they are not if objects are encrypted with the keys of a KMS.
    """
    key = f"probe/{secrets.token_hex(16)}"
    try:
        etag = put(s3, s3.small, key, b"1", "text/plain", if_none_match=True)
        honoured = (
            bool(etag)
            and put(s3, s3.small, key, b"2", "text/plain", if_none_match=True) is None
            and put(s3, s3.small, key, b"3", "text/plain", if_match="0" * 32) is None
            and put(s3, s3.small, key, b"4", "text/plain", if_match=etag or "") is not None
        )
    finally:
        s3.small.client.remove_object(s3.bucket, key)
    if not honoured:
        raise Failure(
            reason_pb2.REASON_STORAGE_UNAVAILABLE,
            f"The S3 server at {s3.endpoint} does not honour conditional writes (If-None-Match and "
            "If-Match on PUT, with the ETag that it returned), which Ingot needs to commit media. "
            "Use a server that does, such as MinIO, SeaweedFS, AWS S3 or Cloudflare R2; a proxy in "
            "front of it must forward these headers.",
        )
    return etag == hashlib.md5(b"1", usedforsecurity=False).hexdigest()
