"""Checksums by which an S3 server refuses a body that was changed on its way.

CRC32 takes a seventh of the processor time of MD5, which is 1.4 s for 1 GB. MD5 is for servers that
do not check CRC32. Of an object in parts, the server returns the composite checksum: the checksum
of the checksums of the parts, a dash, and their number. It proves that all are there, in order
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Final, TypeAlias

CRC32_HEADER: Final = "x-amz-checksum-crc32"
ALGORITHM_HEADER: Final = "x-amz-checksum-algorithm"


class Crc32:
    """CRC32 of bytes that come piece by piece: that of zlib, its most significant byte first."""

    def __init__(self, data: bytes = b"") -> None:
        self._value = zlib.crc32(data)

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")

    @property
    def header(self) -> dict[str, str]:
        """The header of a PUT by which the server checks its body. It must be signed."""
        return {CRC32_HEADER: str(self)}

    def __str__(self) -> str:
        return b64encode(self.digest()).decode("ascii")


class Md5:
    """The same by MD5, of which ETags are made, unless objects are encrypted with keys of a KMS."""

    def __init__(self, data: bytes = b"") -> None:
        self._hash = hashlib.md5(data, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        return self._hash.digest()

    @property
    def header(self) -> dict[str, str]:
        return {"Content-MD5": b64encode(self.digest()).decode("ascii")}

    def __str__(self) -> str:
        return self.digest().hex()


Checksum: TypeAlias = Crc32 | Md5


def composite(parts: Sequence[Checksum]) -> str:
    """Return the composite checksum of an object that was completed from `parts`."""
    whole = type(parts[0])(b"".join(part.digest() for part in parts))
    return f"{whole}-{len(parts)}"
