"""Internal keys: what lies in the bucket already, `s3://bucket/key`; `gs://` names the same.

    s3://<bucket>/media/<id>/...   a file of the media with this id
    s3://<bucket>/<any other key>  an object put there by others; Ingest adopts it where it lies

What Ingot keeps under other folders of its own is nobody's to name.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources.source import Identity, Way

_URL: Final = re.compile(r"(?:s3|gs)://(?P<bucket>[^/]*)/?(?P<key>.*)", re.DOTALL | re.IGNORECASE)
_KEY_BYTES: Final = 1024
_OWN_FOLDERS: Final = ("uploads/", "alias/", "probe/")
_MEDIA: Final = re.compile(r"media/(?P<id>[a-z2-7]{52})/.+")


class InternalSource:
    """Takes `s3://` and `gs://` URLs; an object may be replaced by who put it there."""

    name: Final = "internal"
    mutable: Final = True
    way: Final = Way.OBJECT

    def identify(self, url: str) -> Identity | None:
        address = parse(url)
        if address is None:
            return None
        canonical = f"s3://{address.bucket}/{address.key}"
        return Identity(self.name, f"{self.name}:{canonical}", canonical, canonical)


class Address(NamedTuple):
    """Where an object lies."""

    bucket: str
    key: str

    def check_bucket(self, bucket: str) -> None:
        """Raises Failure BUCKET_FORBIDDEN for other buckets, and for what is Ingot's alone."""
        if self.bucket != bucket:
            raise Failure(
                reason_pb2.REASON_BUCKET_FORBIDDEN,
                f"The bucket {self.bucket} is not the one that this installation serves.",
                metadata={"bucket": self.bucket},
            )
        if self.key.startswith(_OWN_FOLDERS):
            raise Failure(
                reason_pb2.REASON_BUCKET_FORBIDDEN,
                f"The folder {self.key.partition('/')[0]}/ is Ingot's own. Put the object under "
                "another key.",
                metadata={"bucket": self.bucket},
            )

    @property
    def media_id(self) -> str | None:
        """The media whose file the object is, empty for no possible one; None for other keys."""
        if not self.key.startswith("media/"):
            return None
        found = _MEDIA.fullmatch(self.key)
        return found["id"] if found else ""


def parse(url: str) -> Address | None:
    """The address that an internal URL names; None for a URL that is not one.

    Raises Failure INVALID_REQUEST for a broken one. Keys with empty, `.` or `..` segments are
    refused: some S3 servers take them for another key.
    """
    found = _URL.fullmatch(url.strip(" \t\r\n"))
    if found is None:
        return None
    bucket, key = found["bucket"], found["key"]
    if not bucket or not key:
        raise _broken("names no object", "Write it as s3://BUCKET/KEY.")
    if len(key.encode(errors="surrogatepass")) > _KEY_BYTES or not key.isprintable():
        raise _broken("has a key that S3 does not take", "Keys are 1024 bytes of text at most.")
    if {"", ".", ".."} & set(key.split("/")):
        raise _broken("has an empty, `.` or `..` segment in its key", "Use a plain key.")
    return Address(bucket, key)


def _broken(problem: str, remedy: str) -> Failure:
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The URL {problem}. {remedy}",
        violations={"url": problem},
    )
