"""Manifests that go to another place, where the URLs of their files are others.

Media ids, owners, labels, times and everything else stay. A file is a media item's own if its URL
ends with `/media/<id>/<name>`; an object that was adopted belongs to others, and keeps its URL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ingot.v1.media_pb2 import AudioStream, Blob, Media, SideFile, VideoStream
from ingot_server.library.manifest_objects import FOLDER
from ingot_server.library.manifest_pb2 import Manifest


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a manifest names, wherever it is."""

    key: str
    """`media/<id>/<name>`."""
    size_bytes: int
    sha256: str
    """In hexadecimal; empty if it is not known."""
    content_type: str


def own_key(url: str, media_id: str) -> str | None:
    """Return the key of a media item's own file; None for the URL of any other object."""
    name = url.rpartition("/")[2]
    key = f"{FOLDER}{media_id}/{name}"
    is_own = url.startswith("s3://") and url.endswith(f"/{key}") and not name.startswith(".")
    return key if is_own and name else None


def own_files_of(media: Media) -> list[NamedFile]:
    """Return the media item's own files, each once."""
    files: list[Blob | SideFile] = [media.blob, *media.side_files]
    named = {
        key: NamedFile(key, file.size_bytes, file.sha256, file.content_type)
        for file in files
        if (key := own_key(file.url, media.id)) is not None
    }
    return list(named.values())


def is_same(one: Manifest, other: Manifest) -> bool:
    """Return whether two manifests say the same, whatever is known to be damaged."""
    return relocated(one, _same_place) == relocated(other, _same_place)


def _same_place(key: str) -> str:
    return f"s3://same/{key}"


def relocated(manifest: Manifest, url_of: Callable[[str], str]) -> Manifest:
    """Return the manifest where `url_of` gives the URLs of keys: whole, and without an etag."""
    moved = Manifest()
    moved.CopyFrom(manifest)
    moved.ClearField("damage")
    media = moved.media
    media.ClearField("etag")
    files: list[Blob | VideoStream | AudioStream | SideFile] = [media.blob, *media.side_files]
    for named in (*files, *media.video, *media.audio):
        if (key := own_key(named.url, media.id)) is not None:
            named.url = url_of(key)
    return moved
