"""Checksums as S3 writes them. The values are those that MinIO and SeaweedFS have returned."""

from __future__ import annotations

import pytest

from ingot_server.library.checksums import Checksum, Crc32, Md5, composite

PART = b"a" * (5 << 20)


@pytest.mark.parametrize(
    ("kind", "header", "whole"),
    [
        (Crc32, {"x-amz-checksum-crc32": "r/zBbw=="}, "P3L18w==-2"),
        (
            Md5,
            {"Content-MD5": "ebKBBg0ze5srhMzzkK3PdA=="},
            "49ebe67318017a7d9715d3d9f6a47cb2-2",
        ),
    ],
)
def test_checksums_are_those_of_the_server(
    kind: type[Crc32 | Md5], header: dict[str, str], whole: str
) -> None:
    checksum: Checksum = kind()
    for begin in range(0, len(PART), 1000):
        checksum.update(PART[begin : begin + 1000])
    assert checksum.header == header
    assert composite([checksum, kind(b"x")]) == whole
