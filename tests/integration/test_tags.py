"""What a player shows of a result: written by mutagen or ffmpeg, read here by the other of them."""

from __future__ import annotations

import base64
import logging
import subprocess
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import av
import imageio_ffmpeg
import mutagen.mp4
import pytest
from google.protobuf.duration_pb2 import Duration
from mutagen.flac import FLAC, Picture
from mutagen.id3 import ID3
from mutagen.oggopus import OggOpus

from ingot.v1.media_pb2 import Chapter
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.transcode.cover import LARGEST_EMBEDDED, prepare_cover
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import tags_for
from ingot_server.transcode.targets import Size
from ingot_server.transcode.transcoder import Transcoder
from ingot_server.transcode.verify import image_size
from tests.media import media
from tests.recipes import make_recipe

TITLE = "Glocke; „Tag\\Nacht“ = #1\n東京 \U0001f514"
AT: tuple[Literal["start"], Literal["end"]] = ("start", "end")
ADDRESS = "https://example.com/watch?v=a&b=c#d"
TAGS = {
    "title": TITLE,
    "artist": "Ingot & Söhne",
    "album": "Bells",
    "date": "2026-11-21",
    "comment": ADDRESS,
}


@pytest.fixture
async def tools() -> AsyncIterator[tuple[Ffmpeg, Prober]]:
    settings = Settings()
    prober = Prober(settings)
    prober.start()
    yield Ffmpeg(settings), prober
    await prober.close()


async def tagged(
    tools: tuple[Ffmpeg, Prober],
    directory: Path,
    recipe: Recipe,
    *,
    cover: Path | None = None,
    title: str = TITLE,
    own: bool = False,
) -> Path:
    """What `recipe` makes of a clip about which everything is known, or only its own tags."""
    ffmpeg, prober = tools
    parent = await prober.probe(media("plain.mp4"))
    if not own:
        parent.file_tags.clear()
        parent.title, parent.uploader = title, TAGS["artist"]
        parent.publish_time.FromDatetime(datetime(2026, 11, 21, 23, 59, tzinfo=UTC))
        parent.source.page_url = ADDRESS
        parent.chapters.extend(_chapters())
    plan = plan_conversion(canonical_recipe(recipe), parent)
    image = await prepare_cover(cover, directory, ffmpeg) if cover is not None else b""
    tags = tags_for(plan, album="" if own else TAGS["album"], cover=image)
    transcoder = Transcoder(ffmpeg, prober)
    made = await transcoder.transcode(plan, media("plain.mp4"), directory, tags)
    return made.path


def _chapters() -> list[Chapter]:
    return [
        Chapter(title="First; = half", start_offset=Duration(), end_offset=Duration(seconds=1)),
        Chapter(title="Zweite", start_offset=Duration(seconds=1), end_offset=Duration(seconds=2)),
    ]


def read(path: Path) -> tuple[dict[str, str], list[tuple[str, float, float]]]:
    """Tags and chapters, times in seconds, rounded; Vorbis comments give chapters no end."""
    with av.open(str(path)) as container:
        tags = dict(container.metadata) or dict(container.streams[0].metadata)
        chapters = []
        for one in container.chapters():
            start, end = (round(float(one[at] * Fraction(one["time_base"] or 0)), 1) for at in AT)
            chapters.append((one["metadata"].get("title", ""), start, end))
    by_start = sorted(chapters, key=lambda chapter: chapter[1])  # ID3 has them in any order.
    return {name.lower(): value for name, value in tags.items()}, by_start


@pytest.mark.parametrize("name", ["mp3", "m4a", "opus", "flac", "mp4"])
async def test_players_see_what_is_known(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path, name: str
) -> None:
    path = await tagged(tools, tmp_path, make_recipe(name))
    tags, chapters = read(path)
    assert {name: tags.get(name) for name in TAGS} == TAGS
    assert chapters == [("First; = half", 0, 1), ("Zweite", 1, 2)]


async def test_an_mp3_has_id3_of_version_2_4(tools: tuple[Ffmpeg, Prober], tmp_path: Path) -> None:
    path = await tagged(tools, tmp_path, make_recipe("mp3"), cover=media("picture.jpg"))
    assert path.read_bytes()[:4] == b"ID3\x04"
    tags = ID3(path)
    assert tags.version == (2, 4, 0)
    assert str(tags["TDRC"].text[0]) == TAGS["date"]
    (cover,) = tags.getall("APIC")
    assert (cover.mime, cover.type) == ("image/jpeg", 3)
    assert cover.data == media("picture.jpg").read_bytes()
    assert tags["CTOC:toc"].child_element_ids == ["chp0", "chp1"]
    assert b"TAG" not in path.read_bytes()[-128:-125]


@pytest.mark.parametrize("picture", ["picture.jpg", "picture.png", "picture.webp", "picture.avif"])
async def test_covers_are_there_as_players_take_them(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path, picture: str
) -> None:
    magic = b"\x89PNG" if picture.endswith("png") else b"\xff\xd8\xff"
    for name in ("mp3", "m4a", "opus", "flac"):
        directory = tmp_path / name
        directory.mkdir()
        path = await tagged(tools, directory, make_recipe(name), cover=media(picture))
        if name == "mp3":
            data = ID3(path).getall("APIC")[0].data
        elif name == "m4a":
            data = bytes(mutagen.mp4.MP4(path)["covr"][0])
        elif name == "opus":
            [block] = OggOpus(path)["metadata_block_picture"]
            data = Picture(base64.b64decode(block)).data
        else:
            data = FLAC(path).pictures[0].data
        assert data.startswith(magic), name
        with av.open(str(path)) as container:  # A player decodes it as a picture of its own.
            assert [len(list(container.decode(video=0)))] == [1]


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _huge(png: bytes) -> bytes:
    """With 65535 pixels in each direction, and a check sum that says so too."""
    header = b"IHDR" + b"\0\0\xff\xff" * 2 + png[24:29]
    return png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]


def _drawn(cover: Path, scene: str) -> Path:
    ffmpeg = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi")
    subprocess.run([*ffmpeg, "-i", scene, "-frames:v", "1", str(cover)], check=True)
    return cover


_OF_NO_USE: Final[dict[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "text": ("jpg", lambda _: b"<html>"),
    "empty": ("jpg", lambda _: b""),
    "half a JPEG": ("jpg", _half),
    "a JPEG without its end": ("jpg", lambda jpeg: jpeg[:-20]),
    "the head of a JPEG": ("jpg", lambda jpeg: jpeg[:30]),
    "what begins as a JPEG": ("jpg", lambda jpeg: jpeg[:12] + bytes(range(256))),
    "half a PNG": ("png", _half),
    "a PNG without its end": ("png", lambda png: png[:-20]),
    "a PNG that is torn": ("png", lambda png: _half(png)[:-40] + bytes(40) + png[len(png) // 2 :]),
    "a PNG that claims to be huge": ("png", _huge),
    "what begins as a WebP": ("webp", lambda webp: webp[:20] + bytes(200)),
    "half a WebP": ("webp", _half),
    "half an AVIF": ("avif", _half),
}


@pytest.mark.parametrize("kind", ["missing", *_OF_NO_USE])
async def test_a_cover_of_no_use_is_left_out_with_a_word_and_the_song_is_made(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    cover = tmp_path / "cover"
    if kind != "missing":
        picture, spoiled = _OF_NO_USE[kind]
        cover.write_bytes(spoiled(media(f"picture.{picture}").read_bytes()))
    with caplog.at_level(logging.INFO, "ingot_server.transcode.cover"):
        path = await tagged(tools, tmp_path, make_recipe("mp3"), cover=cover)
    assert not ID3(path).getall("APIC")
    assert read(path)[0]["title"] == TITLE
    [record] = caplog.records
    assert record.message.startswith("the cover is left out: ")


@pytest.mark.parametrize("picture", ["picture.jpg", "picture.png"])
async def test_a_cover_is_carried_over_without_what_lies_behind_its_end(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path, picture: str
) -> None:
    cover = tmp_path / "cover"
    cover.write_bytes(media(picture).read_bytes() + bytes(1000))
    path = await tagged(tools, tmp_path, make_recipe("mp3"), cover=cover)
    [frame] = ID3(path).getall("APIC")
    assert frame.mime == "image/jpeg"
    assert frame.data.endswith(b"\xff\xd9")


@pytest.mark.parametrize(
    ("size", "fitted"), [("3840x2160", (1920, 1080)), ("1000x3000", (640, 1920))]
)
async def test_a_cover_that_is_too_large_is_scaled_down_in_its_shape(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path, size: str, fitted: tuple[int, int]
) -> None:
    cover = _drawn(tmp_path / "cover.png", f"color=s={size}")
    path = await tagged(tools, tmp_path, make_recipe("mp3"), cover=cover)
    [frame] = ID3(path).getall("APIC")
    embedded = tmp_path / "embedded.jpg"
    embedded.write_bytes(frame.data)
    assert image_size(embedded, "image/jpeg") == Size(*fitted)


async def test_a_cover_of_many_bytes_is_made_smaller(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path
) -> None:
    noise = "color=s=1600x900,format=rgb24,noise=alls=100:allf=t"
    cover = _drawn(tmp_path / "cover.png", noise)
    assert cover.stat().st_size > LARGEST_EMBEDDED
    path = await tagged(tools, tmp_path, make_recipe("mp3"), cover=cover)
    [frame] = ID3(path).getall("APIC")
    assert frame.mime == "image/jpeg"
    assert len(frame.data) <= LARGEST_EMBEDDED


async def test_chapters_follow_the_part(tools: tuple[Ffmpeg, Prober], tmp_path: Path) -> None:
    for name in ("mp3", "m4a", "mp4"):
        directory = tmp_path / name
        directory.mkdir()
        path = await tagged(tools, directory, make_recipe(name, start=0.5, end=1.5))
        assert read(path)[1] == [("First; = half", 0, 0.5), ("Zweite", 0.5, 1)], name


async def test_a_plain_file_keeps_its_own_names(
    tools: tuple[Ffmpeg, Prober], tmp_path: Path
) -> None:
    path = await tagged(tools, tmp_path, make_recipe("opus"), own=True)
    tags = OggOpus(path)
    assert (tags["title"], tags["artist"]) == (["Bell of the Day"], ["Ingot"])
    assert "album" not in tags


async def test_endless_texts_are_cut(tools: tuple[Ffmpeg, Prober], tmp_path: Path) -> None:
    for name in ("mp3", "m4a", "opus", "flac", "mp4"):
        directory = tmp_path / name
        directory.mkdir()
        path = await tagged(tools, directory, make_recipe(name), title="t\0" * 100_000)
        assert 0 < len(read(path)[0]["title"]) <= 4096, name


async def test_a_wave_is_nothing_but_sound(tools: tuple[Ffmpeg, Prober], tmp_path: Path) -> None:
    path = await tagged(tools, tmp_path, make_recipe("wav"), cover=media("picture.jpg"))
    assert "title" not in read(path)[0]
