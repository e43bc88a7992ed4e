"""Conditional writes (RFC 9110, section 13), by which the bucket lets only one commit win."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from minio.error import S3Error

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
