"""Conditional writes (RFC 9110, section 13), by which the bucket lets only one commit win."""

from __future__ import annotations

from datetime import timedelta

from minio.error import S3Error

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.call_pool import CallPool
from ingot_server.library.checksums import Md5
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

    The server refuses a PUT that arrives after `lifetime`, if one is given. A PUT without a
    response is sent again; None means that none of them has written. Raises Failure
    STORAGE_UNAVAILABLE if that cannot be known.
    """
    headers = {"Content-Type": content_type}
    if if_none_match:
        headers["If-None-Match"] = "*"
    if if_match:
        headers["If-Match"] = f'"{if_match}"'
    response = s3.put(
        pool, key, data, Md5(data), size=len(data), headers=headers, lifetime=lifetime
    )
    if response.status == 200:
        return etag_of(response)
    # 409: S3 may refuse either of two conditional writers at the same moment.
    refused = (if_none_match or if_match) and response.status in (409, 412)
    error = error_of(response)
    absent = if_match and isinstance(error, S3Error) and error.code == ABSENT
    if not (refused or absent):
        raise error
    was_sent_again = response.retries is not None and response.retries.history
    return _etag_if_written(s3, pool, key, data) if was_sent_again else None


def _etag_if_written(s3: S3, pool: CallPool, key: str, data: bytes) -> str:
    """Return the ETag of the object if it has just this content.

    Otherwise an earlier one of the repeated PUTs may have written it, and others may have replaced
    it since: raises Failure STORAGE_UNAVAILABLE.
    """
    found = pool.client.get_object(s3.bucket, s3.object_name(key))
    try:
        if found.read() == data:
            return etag_of(found)
    finally:
        found.close()
        found.release_conn()
    raise Failure(
        reason_pb2.REASON_STORAGE_UNAVAILABLE,
        f"The object storage at {s3.endpoint} did not say whether {key} was written, and it has "
        "been changed since. Try again.",
    )
