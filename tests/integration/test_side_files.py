"""What an ingest takes besides the media, as its callers ask for it and get it.

The page is ours and plays its video with JW Player, which yt-dlp's generic extractor reads.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import imageio_ffmpeg
import pytest

from ingot.v1.ingest_service_pb2 import BatchIngestRequest, IngestRequest
from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED, IngestOptions
from ingot.v1.job_service_pb2 import GetJobRequest, WatchJobRequest
from ingot.v1.media_pb2 import Media, SideFile
from ingot.v1.media_service_pb2 import (
    BatchGetMediaRequest,
    CreateDownloadUrlRequest,
    GetMediaRequest,
    ListMediaRequest,
)
from ingot_server.config import Settings
from ingot_server.library.bounds import LARGEST_MANIFEST
from tests.harness import Harness, running_harness
from tests.manifests import TYPES, serve_manifest
from tests.media import media
from tests.origin import Origin, Page, running_origin
from tests.refusals import reason_name_of, refusal

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

VTT = b"WEBVTT\n\n00:00.000 --> 00:01.000\nDing.\n"
SRT = b"1\r\n00:00:00,000 --> 00:00:01,000\r\nDing.\r\n"
TTML = b'<?xml version="1.0"?><tt xmlns="http://www.w3.org/ns/ttml"><body/></tt>'
LATIN_SRT = SRT.replace(b"Ding", b"D\xefng")
WHOLE_TTML = TTML.replace(b"<body/>", b'<body><div><p begin="0s" end="1s">Ding.</p></div></body>')
ASS = b"""[Script Info]
ScriptType: v4.00+

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,Ding.
"""
HTML = b"<html><title>Please sign in</title></html>"


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[Harness]:
    async with running_harness(settings.replace(attempts=1)) as running:
        yield running


@pytest.fixture
async def origin(clip: bytes) -> AsyncIterator[Origin]:
    async with running_origin() as running:
        running.serve("/clip.mp4", Page(clip))
        yield running


def serve_player(origin: Origin, tracks: dict[str, bytes] | None = None, **setup: Any) -> str:
    """A page that plays `/clip.mp4` with these subtitles; its URL."""
    listed = []
    for number, (language, content) in enumerate((tracks or {}).items()):
        origin.serve(f"/track-{number}", Page(content, content_type="text/plain"))
        listed.append({"kind": "captions", "label": language, "file": f"/track-{number}"})
    said = json.dumps({"file": "/clip.mp4", "tracks": listed, **setup})
    page = f"<html><title>A Bell</title><script>jwplayer('p').setup({said});</script></html>"
    return origin.serve("/page", Page(page.encode(), content_type="text/html"))


def serve_object(origin: Origin, **fields: Any) -> str:
    """A page that describes `/clip.mp4` as schema.org has it; its URL."""
    said = {
        "@context": "https://schema.org",
        "@type": "VideoObject",
        "name": "A Bell",
        "contentUrl": origin.url("/clip.mp4"),
        "encodingFormat": "video/mp4",
        **fields,
    }
    page = f'<html><script type="application/ld+json">{json.dumps(said)}</script></html>'
    return origin.serve("/page", Page(page.encode(), content_type="text/html"))


def subtitles(stored: Media) -> list[tuple[str, str]]:
    return [(side.language, side.content_type) for side in stored.side_files]


@pytest.mark.parametrize(
    ("there", "asked", "got"),
    [
        (["en", "de"], ["de"], ["de"]),
        (["en", "de"], ["fr"], []),
        (["en"], ["en", "EN", "en-US"], ["en"]),
        (["pt"], ["pt-BR"], ["pt"]),
        (["pt_BR"], ["pt"], ["pt-BR"]),
        (["pt-PT"], ["pt-BR"], []),
        (["en", "en-GB"], ["en-GB", "en"], ["en-GB", "en"]),
        (["../../en", "en\n"], ["en"], []),
        (["Deutsch", "English (CC)", "fra"], ["en", "fr"], ["en", "fr"]),
    ],
)
async def test_subtitles_come_by_language(
    harness: Harness, origin: Origin, there: list[str], asked: list[str], got: list[str]
) -> None:
    url = serve_player(origin, dict.fromkeys(there, VTT))

    job = await harness.ingest(url, options=IngestOptions(subtitle_languages=asked))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert subtitles(job.media) == [(language, "text/vtt") for language in got]


async def test_subtitles_of_a_manifest_are_known_by_language_and_else_by_name(
    harness: Harness, origin: Origin
) -> None:
    media_url = serve_manifest(origin, "hls", at="/stream.m3u8")
    renditions = []
    for number, (name, language) in enumerate([("Deutsch", ""), ("English", ""), ("A", "fr")]):
        origin.serve(f"/said-{number}.vtt", Page(VTT, content_type="text/vtt"))
        said = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsaid-{number}.vtt\n#EXT-X-ENDLIST\n"
        origin.serve(f"/said-{number}.m3u8", Page(said.encode(), content_type=TYPES[".m3u8"]))
        known = f',LANGUAGE="{language}"' if language else ""
        renditions.append(
            f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="said",NAME="{name}"{known},'
            f'URI="said-{number}.m3u8"'
        )
    stream = f'#EXT-X-STREAM-INF:BANDWIDTH=300000,SUBTITLES="said"\n{media_url}\n'
    text = "\n".join(["#EXTM3U", *renditions, stream])
    url = origin.serve("/all.m3u8", Page(text.encode(), content_type=TYPES[".m3u8"]))

    options = IngestOptions(subtitle_languages=["en", "fr", "es"])
    job = await harness.ingest(url, options=options)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert subtitles(job.media) == [("en", "text/vtt"), ("fr", "text/vtt")]


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        (VTT, ["text/vtt"]),
        (SRT, ["application/x-subrip", "text/vtt"]),
        (LATIN_SRT, ["application/x-subrip", "text/vtt"]),
        (WHOLE_TTML, ["application/ttml+xml", "text/vtt"]),
        (ASS, ["text/x-ssa", "text/vtt"]),
        (TTML, ["application/ttml+xml"]),
        (b"\xef\xbb\xbf" + VTT, ["text/vtt"]),
        (HTML, []),
        (b"", []),
        (bytes(1000), []),
    ],
)
async def test_the_type_of_subtitles_is_what_they_hold(
    harness: Harness, origin: Origin, content: bytes, kinds: list[str]
) -> None:
    url = serve_player(origin, {"en": content})

    job = await harness.ingest(url, options=IngestOptions(subtitle_languages=["en"]))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [side.content_type for side in job.media.side_files] == kinds
    assert [side.converted for side in job.media.side_files] == [False, True][: len(kinds)]
    if len(kinds) == 2:
        made = (await harness.download(url=job.media.side_files[1].url)).decode()
        assert "Dïng." in made.replace("Ding", "Dïng")
        assert "00:00.000 --> 00:01.000" in made


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("picture.jpg", "image/jpeg"),
        ("picture.png", "image/png"),
        ("picture.webp", "image/webp"),
        ("picture.avif", "image/avif"),
    ],
)
async def test_the_thumbnail_is_stored_as_what_it_is(
    harness: Harness, origin: Origin, name: str, kind: str
) -> None:
    picture = media(name).read_bytes()
    origin.serve("/picture", Page(picture, content_type="application/octet-stream"))
    url = serve_player(origin, image="/picture")

    job = await harness.ingest(url, options=IngestOptions(thumbnail=True))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    (side,) = job.media.side_files
    assert (side.kind, side.content_type) == (SideFile.KIND_THUMBNAIL, kind)
    assert side.size_bytes == len(picture)
    assert side.sha256 == hashlib.sha256(picture).hexdigest()
    assert job.media.thumbnail_url == origin.url("/picture")


@pytest.mark.parametrize(
    "page",
    [
        Page(HTML, content_type="image/jpeg"),
        Page(status=404),
        Page(status=500),
        Page(redirect="http://10.0.0.1/picture"),
        Page(redirect="file:///etc/passwd"),
    ],
)
async def test_without_a_thumbnail_the_media_is_stored_all_the_same(
    harness: Harness, origin: Origin, page: Page
) -> None:
    origin.serve("/picture", page)
    url = serve_player(origin, image="/picture")

    job = await harness.ingest(url, options=IngestOptions(thumbnail=True))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert not job.media.side_files
    await harness.assert_idle()


async def test_a_thumbnail_that_does_not_come_is_given_up(
    settings: Settings, origin: Origin
) -> None:
    origin.serve("/picture", Page(silent_after=-1))
    url = serve_player(origin, image="/picture")
    hasty = settings.replace(attempts=1, stall_timeout=timedelta(seconds=10))
    async with running_harness(hasty) as harness:
        job = await harness.ingest(url, options=IngestOptions(thumbnail=True))

        assert job.state == JOB_STATE_SUCCEEDED, job.error
        assert not job.media.side_files
        await harness.assert_idle()


async def test_side_files_come_only_when_they_are_asked_for(
    harness: Harness, origin: Origin
) -> None:
    origin.serve("/picture", Page(media("picture.jpg").read_bytes(), content_type="image/jpeg"))

    job = await harness.ingest(serve_player(origin, {"en": VTT}, image="/picture"))

    assert not job.media.side_files
    assert not origin.gets("/picture")
    assert not origin.gets("/track-0")


async def test_side_files_are_downloaded_by_their_addresses(
    harness: Harness, origin: Origin
) -> None:
    picture = media("picture.png").read_bytes()
    origin.serve("/picture", Page(picture, content_type="image/png"))
    url = serve_player(origin, {"en": VTT, "de": SRT}, image="/picture")
    options = IngestOptions(subtitle_languages=["en", "de"], thumbnail=True)
    stored = (await harness.ingest(url, options=options)).media

    got = [await harness.download(url=side.url) for side in stored.side_files]

    assert [got[0], got[1], got[3]] == [VTT, SRT, picture]
    assert got[2].startswith(b"WEBVTT")
    assert await harness.download(url=stored.blob.url) == origin.pages["/clip.mp4"].content
    assert await harness.download(url=stored.side_files[0].url, offset=3, limit=4) == VTT[3:7]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await harness.download(url=stored.side_files[0].url, sha256=stored.blob.sha256)
    assert refusal(error.value).reason == "ETAG_MISMATCH"
    link = await harness.media.CreateDownloadUrl(
        CreateDownloadUrlRequest(url=stored.side_files[1].url)
    )
    async with aiohttp.ClientSession() as session, session.get(link.url) as answer:
        assert await answer.read() == SRT
        assert 'filename="A Bell.srt"' in answer.headers["Content-Disposition"]
        assert answer.headers["Content-Type"] == "application/x-subrip"


async def test_what_the_source_says_about_its_media_is_kept(
    harness: Harness, origin: Origin
) -> None:
    url = serve_object(
        origin,
        description="How it rings.",
        keywords="bells,bronze",
        author={"name": "The Founder"},
        uploadDate="2026-03-04T05:06:07Z",
        duration="PT2S",
        thumbnailUrl=origin.url("/picture"),
        hasPart=[
            {"@type": "Clip", "name": "Ding", "startOffset": 0, "endOffset": 1},
            {"@type": "Clip", "name": "Dong", "startOffset": 1, "endOffset": 2},
        ],
    )

    stored = (await harness.ingest(url)).media

    assert (stored.title, stored.description) == ("A Bell", "How it rings.")
    assert list(stored.tags) == ["bells", "bronze"]
    assert stored.uploader == "The Founder"
    assert stored.publish_time.ToDatetime(UTC) == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert stored.thumbnail_url == origin.url("/picture")
    assert [
        (each.title, each.start_offset.ToSeconds(), each.end_offset.ToSeconds())
        for each in stored.chapters
    ] == [("Ding", 0, 1), ("Dong", 1, 2)]
    assert await harness.get(url=url) == stored


async def test_a_page_with_megabytes_of_text_makes_a_media_item_that_can_be_read(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    origin.pages["/clip.mp4"].content = tagged(tmp_path / "tagged.mp4")
    url = serve_object(
        origin,
        name="語" * 300_000,
        description="é" * 1_000_000,
        keywords=",".join(f"{number}" * 100 for number in range(2000)),
        author={"name": "The Founder" * 100_000},
        thumbnailUrl=origin.url("/picture?" + "x" * 1_000_000),
        hasPart=[
            {"@type": "Clip", "name": "Ding" * 250, "startOffset": at, "endOffset": at + 1}
            for at in range(2000)
        ],
    )

    job = await harness.ingest(url)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert job.media.title.startswith("語")
    assert job.media.title.endswith("…")
    assert {"title", "description", "tags", "chapters", "file_tags"} <= set(
        job.media.truncated_fields
    )
    (manifest,) = [key for key in await harness.keys("media/") if key.endswith("/media.json")]
    content = await harness.blobs.get(manifest)
    assert content is not None
    assert len(content[0]) <= LARGEST_MANIFEST
    assert await harness.get(url=url) == job.media
    listed = await harness.media.ListMedia(ListMediaRequest())
    assert [each.id for each in listed.media] == [job.media.id]

    # This caller has the default limits of gRPC, and reads the item wherever it may be.
    assert (await harness.jobs.GetJob(GetJobRequest(job_id=job.id))).job.media == job.media
    watch = aiter(harness.jobs.WatchJob(WatchJobRequest(job_id=job.id)))
    assert (await anext(watch)).job.media == job.media
    again = [IngestRequest(url=url)] * 100
    repeated = await harness.api.BatchIngest(BatchIngestRequest(requests=again))
    assert repeated.results[0].job.media == job.media
    many = [GetMediaRequest(url=url)] * 100
    batch = await harness.media.BatchGetMedia(BatchGetMediaRequest(requests=many))
    assert 1 <= len(batch.results) < len(many)
    assert batch.results[0].media == job.media


def tagged(path: Path) -> bytes:
    """A clip whose tags have half a megabyte."""
    tags = [f"tag{number}={'x' * 4000}" for number in range(120)]
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error"),
            *("-i", str(media("plain.mp4")), "-c", "copy", "-movflags", "use_metadata_tags"),
            *(argument for tag in tags for argument in ("-metadata", tag)),
            str(path),
        ],
        check=True,
    )
    return path.read_bytes()


@pytest.mark.parametrize(
    ("announced", "ends"),
    [
        (60, "TRUNCATED"),
        (4.5, "TRUNCATED"),
        (3.5, ""),
        (2, ""),
        (1, ""),
        (0, ""),
        (None, ""),
    ],
)
async def test_what_lasts_not_as_long_as_announced_is_refused(
    harness: Harness, origin: Origin, announced: float | None, ends: str
) -> None:
    job = await harness.ingest(serve_player(origin, duration=announced))

    if ends:
        assert reason_name_of(job) == ends
        assert "2 s" in job.error.message
        await harness.assert_nothing_is_left()
    else:
        assert job.state == JOB_STATE_SUCCEEDED, job.error


async def test_side_files_that_are_asked_for_later_are_added(
    harness: Harness, origin: Origin
) -> None:
    picture = media("picture.png").read_bytes()
    origin.serve("/picture", Page(picture, content_type="image/png"))
    url = serve_player(origin, {"en": VTT, "de": SRT}, image="/picture")
    german = IngestOptions(subtitle_languages=["de"])
    first = (await harness.ingest(url, options=german)).media
    received = origin.bytes_sent("/clip.mp4")
    wanted = IngestOptions(subtitle_languages=["en", "de", "fr"], thumbnail=True)

    job = await harness.ingest(url, options=wanted)

    assert (job.state, job.cached) == (JOB_STATE_SUCCEEDED, True)
    assert job.media.blob == first.blob
    assert origin.bytes_sent("/clip.mp4") == received
    kinds = [(side.language, side.content_type) for side in job.media.side_files]
    both = [("de", "application/x-subrip"), ("de", "text/vtt")]
    assert kinds == [*both, ("en", "text/vtt"), ("", "image/png")]
    original = [side for side in job.media.side_files if not side.converted]
    assert [await harness.download(url=side.url) for side in original] == [SRT, VTT, picture]
    assert await harness.get(url=url) == job.media
    asked = len(origin.log)
    for options in (wanted, german, None):
        again = await harness.ask(url, options=options)
        assert (again.state, again.cached) == (JOB_STATE_SUCCEEDED, True)
        assert len(again.media.side_files) == 4
    assert len(origin.log) == asked


async def test_a_stored_media_stays_when_its_source_is_gone(
    harness: Harness, origin: Origin
) -> None:
    url = serve_player(origin, {"en": VTT})
    first = (await harness.ingest(url)).media
    origin.serve("/page", Page(status=404))

    job = await harness.ingest(url, options=IngestOptions(subtitle_languages=["en"]))

    assert (job.state, job.cached) == (JOB_STATE_SUCCEEDED, True), job.error
    assert job.media == first
    await harness.assert_idle()


async def test_all_subtitles_and_the_info_are_stored_on_request(
    harness: Harness, origin: Origin
) -> None:
    url = serve_player(origin, {"en": VTT, "A B": VTT, "de": HTML})
    everything = IngestOptions(all_subtitles=True, info=True, storyboard=True)

    job = await harness.ingest(url, options=everything)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert subtitles(job.media)[:2] == [("en", "text/vtt"), ("und", "text/vtt")]
    (info,) = job.media.side_files[2:]
    assert (info.kind, info.content_type) == (SideFile.KIND_INFO, "application/json")
    said = json.loads(await harness.download(url=info.url))
    assert said["title"] == job.media.title
    assert {"en", "A B", "de"} <= set(said["subtitles"])
    assert str(harness.settings.scratch_dir) not in json.dumps(said)
    asked = len(origin.log)
    again = await harness.ask(url, options=everything)
    assert (again.cached, len(again.media.side_files)) == (True, 3)
    assert len(origin.log) == asked
