"""The tags of a result: what a player shows, taken from the metadata of its parent.

| | MP3 | M4A | OPUS, FLAC | MP4 |
| --- | --- | --- | --- | --- |
| written by | mutagen, ID3v2.4 | mutagen | mutagen, Vorbis comments | ffmpeg |
| cover | APIC | covr | a picture block as in FLAC | |
| chapters | CHAP, CTOC | ffmpeg | CHAPTER001, CHAPTER001NAME | ffmpeg |

What is not known is left out. WAV, images and waveforms have no tags.
"""

from __future__ import annotations

import base64
import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Final, assert_never

from mutagen import MutagenError
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, CHAP, COMM, CTOC, ID3, TALB, TDRC, TIT2, TPE1, CTOCFlags
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Chapter
from ingot_server.errors import Failure
from ingot_server.library.recipe_formats import TagWriter
from ingot_server.transcode.plan import Plan

_MAX_CHARACTERS: Final = 4096
_FRONT_COVER: Final = 3
_UTF8: Final = 3


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of one file. Texts are empty if unknown; `cover` is a JPEG or PNG, or empty."""

    title: str = ""
    artist: str = ""
    album: str = ""
    date: str = ""
    comment: str = ""
    cover: bytes = b""
    chapters: Sequence[Chapter] = field(default_factory=tuple)


def tags_for(plan: Plan, *, album: str = "", cover: bytes = b"") -> Tags:
    """Return the tags of a result.

    They come from what the source says, or else from the tags of the media item's own file. `album`
    is the title of the list that the media item was ingested with.
    """
    media = plan.media
    own = media.file_tags
    date = own.get("date", "")
    if media.HasField("publish_time"):
        date = media.publish_time.ToDatetime(UTC).date().isoformat()
    return Tags(
        title=_text(media.title or own.get("title", "")),
        artist=_text(media.uploader or own.get("artist", "")),
        album=_text(album or own.get("album", "")),
        date=_text(date),
        comment=_text(media.source.page_url or media.url),
        cover=cover if plan.format.has_cover else b"",
        chapters=plan.chapters,
    )


def ffmetadata(tags: Tags) -> str:
    """Return the tags and chapters in ffmpeg's metadata format, which has no cover."""
    names = ("title", "artist", "album", "date", "comment")
    values = {name: getattr(tags, name) for name in names}
    lines = [f"{name}={_escaped(value)}" for name, value in values.items() if value]
    lines.insert(0, ";FFMETADATA1")
    for chapter in tags.chapters:
        lines += [
            "[CHAPTER]",
            "TIMEBASE=1/1000",
            f"START={chapter.start_offset.ToMilliseconds()}",
            f"END={chapter.end_offset.ToMilliseconds()}",
            f"title={_escaped(_text(chapter.title))}",
        ]
    return "\n".join(lines) + "\n"


def write_tags(path: Path, writer: TagWriter, tags: Tags) -> None:
    """Write `tags` into the file at `path`, in place. Blocks.

    Raises Failure SCRATCH_FULL, or CONVERSION_FAILED if the file cannot hold them.
    """
    try:
        match writer:
            case TagWriter.ID3:
                _id3(tags).save(path, v1=0, v2_version=4)
            case TagWriter.MP4:
                _write_mp4(path, tags)
            case TagWriter.FLAC:
                _write_flac(path, tags)
            case TagWriter.OGG_OPUS:
                _write_opus(path, tags)
            case TagWriter.FFMPEG:
                pass  # ffmpeg has written them with the file.
            case _:
                assert_never(writer)
    except (MutagenError, OSError) as error:
        number = getattr(error, "errno", None) or getattr(error.__context__, "errno", None)
        if number in {errno.ENOSPC, errno.EDQUOT}:
            raise Failure(
                reason_pb2.REASON_SCRATCH_FULL,
                "The worker's scratch space is full. Free some of it, or try again later.",
            ) from error
        raise Failure(
            reason_pb2.REASON_CONVERSION_FAILED, "The tags could not be written into the result."
        ) from error


def _id3(tags: Tags) -> ID3:
    id3 = ID3()
    texts = {TIT2: tags.title, TPE1: tags.artist, TALB: tags.album, TDRC: tags.date}
    for frame, text in texts.items():
        if text:
            id3.add(frame(encoding=_UTF8, text=[text]))
    if tags.comment:
        id3.add(COMM(encoding=_UTF8, lang="und", desc="", text=[tags.comment]))
    if tags.cover:
        id3.add(
            APIC(encoding=_UTF8, mime=cover_type(tags.cover), type=_FRONT_COVER, data=tags.cover)
        )
    names = [f"chp{number}" for number in range(len(tags.chapters))]
    for name, chapter in zip(names, tags.chapters, strict=True):
        id3.add(
            CHAP(
                element_id=name,
                start_time=chapter.start_offset.ToMilliseconds(),
                end_time=chapter.end_offset.ToMilliseconds(),
                start_offset=0xFFFFFFFF,
                end_offset=0xFFFFFFFF,
                sub_frames=[TIT2(encoding=_UTF8, text=[_text(chapter.title)])],
            )
        )
    # The table counts its entries in one byte.
    if 0 < len(names) < 256:
        flags = CTOCFlags.TOP_LEVEL | CTOCFlags.ORDERED
        id3.add(CTOC(element_id="toc", flags=flags, child_element_ids=names, sub_frames=[]))
    return id3


def _write_mp4(path: Path, tags: Tags) -> None:
    file = MP4(path)
    if file.tags is None:
        file.add_tags()
    names = {
        "\xa9nam": tags.title,
        "\xa9ART": tags.artist,
        "\xa9alb": tags.album,
        "\xa9day": tags.date,
        "\xa9cmt": tags.comment,
    }
    file.tags.update({name: [text] for name, text in names.items() if text})
    if tags.cover:
        png = cover_type(tags.cover) == "image/png"
        kind = MP4Cover.FORMAT_PNG if png else MP4Cover.FORMAT_JPEG
        file.tags["covr"] = [MP4Cover(tags.cover, imageformat=kind)]
    file.save()


def _write_flac(path: Path, tags: Tags) -> None:
    file = FLAC(path)
    file.update(_comments(tags))
    if tags.cover:
        file.add_picture(_picture(tags.cover))
    file.save()


def _write_opus(path: Path, tags: Tags) -> None:
    file = OggOpus(path)
    file.update(_comments(tags))
    if tags.cover:
        # Xiph's page "VorbisComment" defines this for all of Ogg.
        file["metadata_block_picture"] = base64.b64encode(_picture(tags.cover).write()).decode()
    file.save()


def _picture(cover: bytes) -> Picture:
    picture = Picture()
    picture.type, picture.mime, picture.data = _FRONT_COVER, cover_type(cover), cover
    return picture


def _comments(tags: Tags) -> dict[str, str]:
    found = {
        "title": tags.title,
        "artist": tags.artist,
        "album": tags.album,
        "date": tags.date,
        "comment": tags.comment,
    }
    comments = {name: text for name, text in found.items() if text}
    for number, chapter in enumerate(tags.chapters, 1):
        start_ms = chapter.start_offset.ToMilliseconds()
        hours, minutes = start_ms // 3_600_000, start_ms // 60_000 % 60
        comments[f"chapter{number:03}"] = (
            f"{hours:02}:{minutes:02}:{start_ms % 60_000 / 1000:06.3f}"
        )
        comments[f"chapter{number:03}name"] = _text(chapter.title)
    return comments


def cover_type(data: bytes) -> str:
    """Return the media type of a JPEG or PNG by its first bytes; empty for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    return "image/jpeg" if data.startswith(b"\xff\xd8\xff") else ""


def _text(text: str) -> str:
    """Return the text, shortened and without the character that ends a text in some formats."""
    return text.replace("\0", "").strip()[:_MAX_CHARACTERS]


def _escaped(text: str) -> str:
    for special in "\\=;#\n":
        text = text.replace(special, f"\\{special}")
    return text.replace("\r", "")
