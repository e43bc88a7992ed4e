"""The MP3 of ten minutes of video, from its page to its last frame.

It is judged by mutagen, by its own frames, and by a decoder that shares no code with FFmpeg:
dr_mp3, which miniaudio brings.
"""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import imageio_ffmpeg
import miniaudio
import pytest
from mutagen.id3 import ID3

from ingot import Client
from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from tests.conversions import Calls, calls
from tests.installation import Installation
from tests.media import media
from tests.origin import Origin, Page

# No whole number of frames, of AAC or of MP3.
PIECE_SECONDS = 60.0137
PIECES = 10
KBPS = 192
FRAME_SAMPLES = 1152
_CHAPTERS = """;FFMETADATA1
[CHAPTER]
TIMEBASE=1/1000
START=0
END=200500
title=Strike
[CHAPTER]
TIMEBASE=1/1000
START=200500
END=600000
title=Fading away
"""
# ISO/IEC 11172-3, 2.4.2.3: layer III of MPEG 1, by the header's indices; kbit/s and Hz.
_BIT_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_SAMPLE_RATES = (44100, 48000, 32000)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Ten minutes of MP4, a picture a second."""
    directory = tmp_path_factory.mktemp("video")
    piece, whole, chapters = (directory / name for name in ("piece.mp4", "whole.mp4", "chapters"))
    chapters.write_text(_CHAPTERS)
    ffmpeg = (imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error")
    sources = (
        *("-f", "lavfi", "-i", "testsrc=size=64x48:rate=1"),
        *("-f", "lavfi", "-i", "anoisesrc=sample_rate=44100:color=pink:seed=3"),
    )
    coding = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
    length = ("-t", str(PIECE_SECONDS))
    subprocess.run([*ffmpeg, *sources, *coding, "-b:a", "48k", *length, str(piece)], check=True)
    looped = ("-stream_loop", str(PIECES - 1), "-i", str(piece), "-i", str(chapters))
    maps = ("-map", "0", "-map_chapters", "1", "-c", "copy", "-movflags", "+faststart")
    subprocess.run([*ffmpeg, *looped, *maps, str(whole)], check=True)
    return whole.read_bytes()


@pytest.fixture
def page(origin: Origin, video: bytes) -> str:
    """A page that describes the video as schema.org has it."""
    said = {
        "@context": "https://schema.org",
        "@type": "VideoObject",
        "name": "Ten Minutes of Bells",
        "author": {"@type": "Person", "name": "A Bell Founder"},
        "uploadDate": "2026-11-21T10:00:00Z",
        "contentUrl": origin.serve("/bells.mp4", Page(video)),
        "encodingFormat": "video/mp4",
        "thumbnailUrl": [
            origin.serve(
                "/bells.jpg",
                Page(media("picture.jpg").read_bytes(), content_type="image/jpeg"),
            )
        ],
    }
    html = f'<html><script type="application/ld+json">{json.dumps(said)}</script></html>'
    return origin.serve("/bells", Page(html.encode(), content_type="text/html"))


async def test_the_mp3_of_ten_minutes(ingot: Installation, page: str, tmp_path: Path) -> None:
    async with calls(ingot.grpc_address) as api, Client(ingot.grpc_address) as client:
        source, made = await _made(api, page)
        path = tmp_path / "bells.mp3"
        await client.download(made.id, path)
    whole = source.duration.ToTimedelta().total_seconds()
    assert whole > 600
    assert made.duration.ToTimedelta().total_seconds() == pytest.approx(whole, abs=0.05)
    assert (made.audio[0].codec, made.audio[0].bitrate_bps) == ("mp3", KBPS * 1000)

    _check_tags(path, source, page)
    frames, rate = _frames(path)
    # Info first, and what the encoder adds before and after: both are marked there.
    before, after = _gaps(frames[0])
    samples = (len(frames) - 1) * FRAME_SAMPLES - before - after
    assert samples / rate == pytest.approx(whole, abs=0.05)
    # Decoders may leave out the frame that has no sound, and the gaps.
    assert _decoded(path) in {
        samples,
        len(frames) * FRAME_SAMPLES,
        (len(frames) - 1) * FRAME_SAMPLES,
    }


async def _made(api: Calls, page: str) -> tuple[Media, Media]:
    options = IngestOptions(thumbnail=True)
    job = await api.end(await api.ingest(page, Recipe(mp3=Recipe.Mp3()), options=options))
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    (made,) = job.conversions
    return job.media, made


def _check_tags(path: Path, source: Media, page: str) -> None:
    tags = ID3(path)
    assert tags.version == (2, 4, 0)
    assert tags["TIT2"].text == ["Ten Minutes of Bells"]
    assert source.uploader
    assert tags["TPE1"].text == [source.uploader]
    published = source.publish_time.ToDatetime(UTC)
    assert published == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert str(tags["TDRC"].text[0]) == "2026-11-21"
    assert tags.getall("COMM")[0].text == [page]
    (cover,) = tags.getall("APIC")
    assert (cover.mime, cover.data) == ("image/jpeg", media("picture.jpg").read_bytes())
    chapters = [
        (one.sub_frames["TIT2"].text[0], one.start_time, one.end_time)
        for one in tags.getall("CHAP")
    ]
    chapters.sort(key=lambda one: one[1])
    assert [(title, start) for title, start, _ in chapters] == [
        ("Strike", 0),
        ("Fading away", 200_500),
    ]
    assert all(one[2] == other[1] for one, other in pairwise(chapters))
    assert tags.getall("CTOC")[0].child_element_ids == ["chp0", "chp1"]


def _frames(path: Path) -> tuple[list[bytes], int]:
    """All frames, and their sample rate: one after the other from the tags to the end."""
    data = path.read_bytes()
    tag_bytes = 0
    for byte in data[6:10]:
        tag_bytes = tag_bytes << 7 | byte
    position, frames, rates = 10 + tag_bytes, list[bytes](), set[int]()
    while position < len(data):
        header = data[position : position + 4]
        assert header[:1] == b"\xff", position
        assert header[1] & 0xFE == 0xFA, "MPEG 1, layer III"
        assert _BIT_RATES[header[2] >> 4] == KBPS, position
        rate = _SAMPLE_RATES[header[2] >> 2 & 3]
        length = FRAME_SAMPLES // 8 * KBPS * 1000 // rate + (header[2] >> 1 & 1)
        frames.append(data[position : position + length])
        rates.add(rate)
        position += length
    assert position == len(data)
    (rate,) = rates
    return frames, rate


def _gaps(frame: bytes) -> tuple[int, int]:
    """Samples before and after the sound, as the encoder says in its first frame."""
    at = frame.index(b"Info")
    # 4 bytes of name, 4 of flags, two numbers of 4, a table of 100, one of 4, a name of 9, 12 more.
    gaps = frame[at + 141 : at + 144]
    return gaps[0] << 4 | gaps[1] >> 4, (gaps[1] & 15) << 8 | gaps[2]


def _decoded(path: Path) -> int:
    """How many samples of each channel another decoder gets out of it."""
    info = miniaudio.mp3_get_file_info(str(path))
    stream = miniaudio.mp3_stream_file(str(path), frames_to_read=1 << 16)
    count, loudest = 0, 0
    for part in stream:
        assert len(part) % info.nchannels == 0
        count += len(part) // info.nchannels
        last = max(map(abs, part[-FRAME_SAMPLES * info.nchannels :]))
        loudest = max(loudest, last)
    assert loudest > 1000  # It is sound and no silence.
    return count
