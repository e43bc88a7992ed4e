"""Links that are signed for some headers. Whether servers honour them, integration tests show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from minio import Minio
from minio.credentials.credentials import Credentials

from ingot_server.library.signed_links import with_headers

KEYS = Credentials("access", "secret")


def link(size: int, key: str = "a/b c") -> str:
    client = Minio("s3.example:9000", "earlier", "other", region="eu-west-1")
    signed = client.get_presigned_url(
        "PUT", "bucket", key, timedelta(minutes=5), request_date=datetime(2026, 1, 2, tzinfo=UTC)
    )
    return with_headers(signed, KEYS, {"Content-Length": str(size)})


def test_a_link_covers_its_size_and_changes_nothing_else() -> None:
    url = urlsplit(link(10))
    fields = parse_qs(url.query)
    assert (url.netloc, url.path) == ("s3.example:9000", "/bucket/a/b%20c")
    assert fields["X-Amz-SignedHeaders"] == ["content-length;host"]
    assert fields["X-Amz-Expires"] == ["300"]
    assert fields["X-Amz-Credential"] == ["access/20260102/eu-west-1/s3/aws4_request"]
    assert link(10) == link(10)
    assert len({link(10), link(11), link(10, "other")}) == 3
