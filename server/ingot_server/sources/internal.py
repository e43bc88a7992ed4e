"""Internal keys: what lies in a bucket that Ingot may read, `s3://bucket/key` or `gs://bucket/key`.

    <scheme>://<own bucket>/media/<id>/...   a file of the media with this id
    <scheme>://<own bucket>/<any other key>  an object put there by others; Ingest adopts it
    <scheme>://<other bucket>/<key>          the same, of a bucket that INGOT_BUCKETS_FILE names

What Ingot keeps under other folders of its own bucket is nobody's to name. Which buckets there are
is not known here: see library/blobs.py.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources.source import FetchMethod, Identity

_URL: Final = re.compile(
    r"(?P<scheme>s3|gs)://(?P<bucket>[^/]*)/?(?P<key>.*)", re.DOTALL | re.IGNORECASE
)
_KEY_BYTES: Final = 1024
_OWN_FOLDERS: Final = ("uploads/", "alias/", "probe/")
_MEDIA: Final = re.compile(r"media/(?P<id>[a-z2-7]{52})/.+")


class InternalSource:
    """Takes `s3://` and `gs://` URLs; an object may be replaced by who put it there."""

    name: Final = "internal"
    fetch_method: Final = FetchMethod.OBJECT
    accepts: Final = ("s3://<bucket>/<key>", "gs://<bucket>/<key>")
    required_setting: Final = None
    mutable: Final = True
    has_own_ids: Final = False
    in_bucket: Final = True
    has_public_host: Final = False
    throttled_by_host: Final = False
    uses_extractor: Final = False
    is_manifest: Final = False
    may_be_list: Final = False
    may_be_live: Final = False
    has_selections: Final = False
    offers_audio_only: Final = False
    has_side_files: Final = False

    def identify(self, url: str) -> Identity | None:
        address = parse(url)
        return address.identity if address is not None else None


class Address(NamedTuple):
    """Where an object lies. `scheme` is `s3` or `gs`."""

    scheme: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """The address as manifests have it."""
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def identity(self) -> Identity:
        """What a media adopted from here is known by."""
        return Identity(
            InternalSource.name, f"{InternalSource.name}:{self.url}", self.url, self.url
        )

    def forbidden(self) -> Failure:
        """The failure of a bucket that is not configured."""
        return Failure(
            reason_pb2.REASON_BUCKET_FORBIDDEN,
            f"The bucket {self.scheme}://{self.bucket} is none that this installation reads. "
            "INGOT_BUCKETS_FILE names those beside its own.",
            metadata={"bucket": self.bucket},
        )

    def check_key(self) -> None:
        """Raises Failure BUCKET_FORBIDDEN for what is Ingot's alone in its own bucket."""
        if self.key.startswith(_OWN_FOLDERS):
            raise Failure(
                reason_pb2.REASON_BUCKET_FORBIDDEN,
                f"The folder {self.key.partition('/')[0]}/ is Ingot's own. Put the object under "
                "another key.",
                metadata={"bucket": self.bucket},
            )

    @property
    def media_id(self) -> str | None:
        """The media whose file the object is, empty for no possible one; None for other keys.

        Of an object in the installation's bucket: in another one such a key means nothing.
        """
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
    return Address(found["scheme"].lower(), bucket, key)


def _broken(problem: str, remedy: str) -> Failure:
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The URL {problem}. {remedy}",
        violations={"url": problem},
    )
