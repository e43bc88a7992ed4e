"""The source of internal keys: objects in a bucket that Ingot may read.

    <scheme>://<own bucket>/media/<id>/...   a file of the media item with this id
    <scheme>://<own bucket>/<any other key>  an object of another program, which Ingest adopts
    <scheme>://<other bucket>/<key>          the same, in a bucket that INGOT_BUCKETS_FILE names

The scheme is `s3` or `gs`. Callers cannot name what Ingot keeps in other folders of its own bucket.
With INGOT_S3_PREFIX all of this holds under the prefix, and what lies beside it is another bucket.
library/blobs.py knows which buckets and prefixes there are; keys below are relative to the prefix.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.setting_checks import BUCKET_FOLDERS
from ingot_server.sources.source import FetchMethod, Identity, SourceDefaults

_URL: Final = re.compile(
    r"(?P<scheme>s3|gs)://(?P<bucket>[^/]*)/?(?P<key>.*)", re.DOTALL | re.IGNORECASE
)
_KEY_BYTES: Final = 1024
_HIDDEN_FOLDERS: Final = tuple(f"{name}/" for name in BUCKET_FOLDERS if name != "media")
_MEDIA: Final = re.compile(r"media/(?P<id>[a-z2-7]{52})/.+")


class InternalSource(SourceDefaults):
    """Accepts `s3://` and `gs://` URLs. The owner of an object may replace it."""

    name: Final = "internal"
    fetch_method: Final = FetchMethod.OBJECT
    accepts: Final = ("s3://<bucket>/<key>", "gs://<bucket>/<key>")
    mutable = True
    has_own_ids = False
    in_bucket = True

    def identify(self, url: str) -> Identity | None:
        address = parse(url)
        return address.identity if address is not None else None


class Address(NamedTuple):
    """The address of an object. `scheme` is `s3` or `gs`."""

    scheme: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """The address as manifests contain it."""
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def identity(self) -> Identity:
        """The identity of a media item that is adopted from here."""
        return Identity(
            InternalSource.name, f"{InternalSource.name}:{self.url}", self.url, self.url
        )

    def forbidden(self) -> Failure:
        """Return the failure for a bucket that is not configured."""
        return Failure(
            reason_pb2.REASON_BUCKET_FORBIDDEN,
            f"This installation may not read the bucket {self.scheme}://{self.bucket}. "
            "Its operator can add the bucket to the file that INGOT_BUCKETS_FILE names.",
            metadata={"bucket": self.bucket},
        )

    def check_own(self, key: str) -> None:
        """Raise Failure BUCKET_FORBIDDEN if its `key` is in a folder that only Ingot uses."""
        if key.startswith(_HIDDEN_FOLDERS):
            raise Failure(
                reason_pb2.REASON_BUCKET_FORBIDDEN,
                f"Only Ingot uses the folder {key.partition('/')[0]}/. Put the object under "
                "another key.",
                metadata={"bucket": self.bucket},
            )


def media_id_of(key: str) -> str | None:
    """Return the id of the media item that has this file; None if it is not a file of one.

    Empty if no media item can have such a file.
    """
    if not key.startswith("media/"):
        return None
    found = _MEDIA.fullmatch(key)
    return found["id"] if found else ""


def parse(url: str) -> Address | None:
    """Return the address that an internal URL names, or None if the URL is not internal.

    Raises Failure INVALID_REQUEST if it is malformed. Keys with empty, `.` or `..` segments are
    refused, because some S3 servers treat them as another key.
    """
    found = _URL.fullmatch(url.strip(" \t\r\n"))
    if found is None:
        return None
    bucket, key = found["bucket"], found["key"]
    if not bucket or not key:
        raise _broken("names no object", "Write it as s3://BUCKET/KEY.")
    if len(key.encode(errors="surrogatepass")) > _KEY_BYTES or not key.isprintable():
        raise _broken("has a key that S3 does not accept", "A key is text of at most 1024 bytes.")
    if {"", ".", ".."} & set(key.split("/")):
        raise _broken("has an empty, `.` or `..` segment in its key", "Use a plain key.")
    return Address(found["scheme"].lower(), bucket, key)


def _broken(problem: str, remedy: str) -> Failure:
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The URL {problem}. {remedy}",
        violations={"url": problem},
    )
