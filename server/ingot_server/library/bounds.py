"""The bounds of a media item: whatever its source says about it, callers can read it.

    title, uploader              1 KiB             tags        500 of 256 bytes
    description                  64 KiB            chapters    1000, with titles of 256 bytes
    thumbnail_url, page_url      8 KiB             file_tags   128, with values of 4 KiB

If a media item with these is still larger than LARGEST_MEDIA, all bounds are halved until it is
not. A cut text ends with an ellipsis; a URL that is too long is left out, as a part of it leads
nowhere. `Media.truncated_fields` names the fields that lost something. Labels are bounded by the
contract, streams and side files by their number. So a manifest is smaller than LARGEST_MANIFEST,
and a job with 16 conversions smaller than the 4 MiB that gRPC clients accept by default.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableSequence
from typing import Any, Final

from google.protobuf import json_format

from ingot.v1.media_pb2 import Media

LARGEST_MANIFEST: Final = 256 << 10
"""Bytes of a manifest in the bucket, as JSON."""
LARGEST_MEDIA: Final = 96 << 10
"""Bytes of a media item as JSON, without its labels and side files."""

_ELLIPSIS: Final = "…"
_TEXTS: Final = {"title": 1 << 10, "description": 64 << 10, "uploader": 1 << 10}
_URL_BYTES: Final = 8 << 10
_TAGS: Final = 500
_TAG_BYTES: Final = 256
_CHAPTERS: Final = 1000
_CHAPTER_TITLE_BYTES: Final = 256
_FILE_TAGS: Final = 128
_FILE_TAG_BYTES: Final = 4 << 10
_LANGUAGE_BYTES: Final = 35
# After so many halvings, the bounds allow less than LARGEST_MEDIA, however JSON escapes the texts.
_HALVINGS: Final = 6


def bound(media: Media) -> None:
    """Cut what is longer than the bounds, and name these fields in `media.truncated_fields`."""
    cut = set(media.truncated_fields)
    for halvings in range(_HALVINGS + 1):
        cut.update(_cut(media, 1 << halvings))
        if _described_bytes(media) <= LARGEST_MEDIA:
            break
    media.truncated_fields[:] = sorted(cut)


def shortened(text: str, largest: int) -> str:
    """Return `text` in at most `largest` bytes of UTF-8; if it is cut, it ends with an ellipsis.

    No character is cut in two. `largest` is at least 3.
    """
    encoded = text.encode()
    if len(encoded) <= largest:
        return text
    return encoded[: largest - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS


def _cut(media: Media, divisor: int) -> Iterator[str]:
    """Cut all fields to the bounds divided by `divisor`; yield those that lost something."""
    for name, largest in _TEXTS.items():
        if _cut_text(media, name, largest // divisor):
            yield name
    if len(media.thumbnail_url.encode()) > _URL_BYTES // divisor:
        media.thumbnail_url = ""
        yield "thumbnail_url"
    if len(media.source.page_url.encode()) > _URL_BYTES // divisor:
        media.source.page_url = ""
        yield "source.page_url"
    lost = [
        _cut_items(media.tags, _TAGS // divisor),
        _cut_tags(media.tags, _TAG_BYTES // divisor),
    ]
    if any(lost):
        yield "tags"
    lost = [_cut_items(media.chapters, _CHAPTERS // divisor)]
    lost += [_cut_text(each, "title", _CHAPTER_TITLE_BYTES // divisor) for each in media.chapters]
    if any(lost):
        yield "chapters"
    if _cut_file_tags(media, _FILE_TAGS // divisor, _FILE_TAG_BYTES // divisor):
        yield "file_tags"
    for stream in (*media.video, *media.audio):
        _cut_text(stream, "language", _LANGUAGE_BYTES)


def _cut_text(message: Any, name: str, largest: int) -> bool:
    text = getattr(message, name)
    short = shortened(text, largest)
    if short == text:
        return False
    setattr(message, name, short)
    return True


def _cut_items(items: Any, most: int) -> bool:
    if len(items) <= most:
        return False
    del items[most:]
    return True


def _cut_tags(tags: MutableSequence[str], largest: int) -> bool:
    short = [shortened(tag, largest) for tag in tags]
    if short == list(tags):
        return False
    tags[:] = short
    return True


def _cut_file_tags(media: Media, most: int, largest: int) -> bool:
    tags = dict(media.file_tags)
    short = {key: shortened(tags[key], largest) for key in list(tags)[:most]}
    if short == tags:
        return False
    media.file_tags.clear()
    media.file_tags.update(short)
    return True


def _described_bytes(media: Media) -> int:
    """Return the size of what sources and files say about a media item, as in a manifest."""
    described = Media()
    described.CopyFrom(media)
    described.ClearField("labels")
    described.ClearField("side_files")
    return len(json_format.MessageToJson(described, ensure_ascii=False, indent=2).encode())
