"""The completion of a multipart upload, whose parts may have checksums: the SDK does not send them.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from minio.xml import Element, SubElement, findtext, getbytes

from ingot_server.library.checksums import Checksum, Crc32
from ingot_server.library.s3 import S3


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says of what it has got; empty what it does not say."""

    etag: str
    crc32: str


def complete(
    s3: S3, name: str, upload_id: str, etags: Sequence[str], checksums: Sequence[Checksum]
) -> Answer:
    """Make an object of the parts, given the ETags that the server returned and what was sent.

    Raises what the SDK raises.
    """
    element = Element("CompleteMultipartUpload")
    for number, (etag, checksum) in enumerate(zip(etags, checksums, strict=True), 1):
        part = SubElement(element, "Part")
        SubElement(part, "PartNumber", str(number))
        SubElement(part, "ETag", f'"{etag}"')
        if isinstance(checksum, Crc32):
            SubElement(part, "ChecksumCRC32", str(checksum))
    response = s3.calls.client._execute(  # noqa: SLF001
        "POST",
        s3.bucket,
        name,
        body=getbytes(element),
        headers={"Content-Type": "application/xml"},
        query_params={"uploadId": upload_id},
    )
    answer = ET.fromstring(response.data.decode())  # noqa: S314 - as the SDK does
    etag = findtext(answer, "ETag") or ""
    return Answer(etag.replace('"', ""), findtext(answer, "ChecksumCRC32") or "")
