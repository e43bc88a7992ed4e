"""Copies that an S3 server makes by itself, so that no byte of them leaves it.

A file of more than a part is copied in parts, because CopyObject takes up to 5 GiB, and sends
nothing while it copies
(https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html).
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Final

from minio.commonconfig import CopySource
from minio.datatypes import Part
from minio.error import S3Error

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.multipart import stat
from ingot_server.library.s3 import FOREIGN, S3

_PART_BYTES: Final = 256 << 20
# The server does not copy, or these keys may not read there.
_REFUSED: Final = frozenset({"AccessDenied", "NotImplemented"})


async def copy_object(
    source: S3, destination: S3, key: str, *, size_bytes: int, content_type: str
) -> bool:
    """Copy an object, `size_bytes` large, to the same key of another bucket or prefix there.

    Returns False if the server does not copy between the two; then nothing was written. Raises
    Failure STORAGE_UNAVAILABLE.
    """
    copy = partial(_copy, source, destination, key, size_bytes, content_type)
    return await destination.calls.run(copy)


def _copy(source: S3, destination: S3, key: str, size_bytes: int, content_type: str) -> bool:
    try:
        if size_bytes <= _PART_BYTES:
            origin = CopySource(source.bucket, source.object_name(key))
            destination.calls.client.copy_object(
                destination.bucket, destination.object_name(key), origin
            )
        else:
            _copy_parts(source, destination, key, size_bytes, content_type)
    except S3Error as exc:
        if exc.code in _REFUSED:
            return False
        raise
    found = stat(destination, destination.calls, key)
    if found is None or found.size_bytes != size_bytes:
        raise Failure(
            reason_pb2.REASON_STORAGE_UNAVAILABLE,
            f"The S3 server at {destination.endpoint} has {found} as a copy of {size_bytes} bytes. "
            "Check its disks and any proxy before it.",
        )
    return True


def _copy_parts(source: S3, destination: S3, key: str, size_bytes: int, content_type: str) -> None:
    # The SDK does not have public methods for a multipart upload.
    client, bucket = destination.calls.client, destination.bucket
    name = destination.object_name(key)
    upload_id = client._create_multipart_upload(bucket, name, {"Content-Type": content_type})  # noqa: SLF001
    try:
        parts = []
        for number, begin in enumerate(range(0, size_bytes, _PART_BYTES), 1):
            length = min(_PART_BYTES, size_bytes - begin)
            origin = CopySource(source.bucket, source.object_name(key), offset=begin, length=length)
            headers: dict[str, str | list[str] | tuple[str]] = {**origin.gen_copy_headers()}
            headers["x-amz-copy-source-range"] = f"bytes={begin}-{begin + length - 1}"
            etag, _ = client._upload_part_copy(bucket, name, upload_id, number, headers)  # noqa: SLF001
            parts.append(Part(number, etag))
        client._complete_multipart_upload(bucket, name, upload_id, parts)  # noqa: SLF001
    except BaseException:
        with contextlib.suppress(*FOREIGN):
            client._abort_multipart_upload(bucket, name, upload_id)  # noqa: SLF001
        raise
