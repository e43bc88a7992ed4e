"""Whole ingests of HLS and DASH from a real web server, their media packed by ffmpeg."""

from __future__ import annotations

import pytest

from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED
from ingot.v1.media_pb2 import Selection
from tests.harness import Harness
from tests.manifests import HEIGHTS, PACKINGS, serve_manifest
from tests.origin import Origin, Page
from tests.refusals import reason_name_of

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

AUDIO = Selection(mode=Selection.MODE_AUDIO_ONLY)
LOW = Selection(max_height=60)
SEGMENT = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n%s\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("name", PACKINGS)
async def test_a_manifest_is_its_best_picture_and_its_sound(
    harness: Harness, origin: Origin, name: str
) -> None:
    job = await harness.ingest(serve_manifest(origin, name))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [(each.codec, each.height) for each in job.media.video] == [("h264", 120)]
    assert [each.codec for each in job.media.audio] == ["aac"]
    assert job.media.duration.ToTimedelta().total_seconds() == pytest.approx(2, abs=0.3)
    content = await harness.download(media_id=job.media.id)
    assert len(content) == job.media.blob.size_bytes
    assert job.media.blob.content_type == "video/mp4"
    assert job.media.web_playable
    assert content.index(b"moov") < content.index(b"mdat"), "it cannot be played as it comes"
    await harness.assert_idle()


@pytest.mark.parametrize("name", PACKINGS)
async def test_its_sound_alone_has_no_picture(harness: Harness, origin: Origin, name: str) -> None:
    job = await harness.ingest(serve_manifest(origin, name), selection=AUDIO)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert not job.media.video
    assert [each.codec for each in job.media.audio] == ["aac"]
    if name == "dash":
        assert not any("stream0" in asked.path or "stream1" in asked.path for asked in origin.log)


@pytest.mark.parametrize("name", PACKINGS)
async def test_a_height_is_kept_or_refused(harness: Harness, origin: Origin, name: str) -> None:
    job = await harness.ingest(serve_manifest(origin, name), selection=LOW)

    if name in HEIGHTS:
        assert job.state == JOB_STATE_SUCCEEDED, job.error
        assert [each.height for each in job.media.video] == [60]
        assert [each.codec for each in job.media.audio] == ["aac"]
    else:
        assert reason_name_of(job) == "SELECTION_UNAVAILABLE"
        await harness.assert_nothing_is_left()


@pytest.mark.parametrize("content_type", ["video/mp4", "audio/mpeg", "text/plain", "video/mp2t"])
@pytest.mark.parametrize(
    ("name", "at"),
    [("hls", "/list.m3u8"), ("hls", "/watch"), ("dash", "/list.mpd"), ("dash", "/watch")],
)
async def test_a_manifest_with_a_wrong_type_is_read_all_the_same(
    harness: Harness, origin: Origin, name: str, at: str, content_type: str
) -> None:
    url = serve_manifest(origin, name, at=at, content_type=content_type)

    job = await harness.ingest(url)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [each.height for each in job.media.video] == [120]
    assert [each.codec for each in job.media.audio] == ["aac"]


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1/1.ts",
        "http://169.254.169.254/latest/meta-data",
        "https://[fd00::1]/1.ts",
        "http://[::ffff:10.0.0.1]/1.ts",
    ],
)
async def test_a_segment_on_a_forbidden_address_is_refused(
    harness: Harness, origin: Origin, address: str
) -> None:
    page = Page(SEGMENT % address.encode(), content_type="application/vnd.apple.mpegurl")

    job = await harness.ingest(origin.serve("/list.m3u8", page))

    assert reason_name_of(job) == "ADDRESS_FORBIDDEN", job
    assert {asked.path for asked in origin.log} == {"/list.m3u8"}
    await harness.assert_nothing_is_left()


@pytest.mark.parametrize(
    "line",
    [
        b'#EXT-X-KEY:METHOD=AES-128,URI="http://10.0.0.1/key"',
        b'#EXT-X-MAP:URI="http://10.0.0.1/init.mp4"',
    ],
)
async def test_neither_key_nor_header_comes_from_a_forbidden_address(
    harness: Harness, origin: Origin, line: bytes
) -> None:
    origin.serve("/1.ts", Page(b"\x47" * 188 * 10, content_type="video/mp2t"))
    text = (SEGMENT % b"1.ts").replace(b"#EXTINF", line + b"\n#EXTINF")
    page = Page(text, content_type="application/vnd.apple.mpegurl")

    job = await harness.ingest(origin.serve("/list.m3u8", page))

    assert reason_name_of(job) == "ADDRESS_FORBIDDEN", job
    await harness.assert_nothing_is_left()


@pytest.mark.parametrize("name", ["hls-renditions", "dash"])
async def test_no_part_of_a_manifest_comes_from_a_forbidden_address(
    harness: Harness, origin: Origin, name: str
) -> None:
    url = serve_manifest(origin, name)
    for path in origin.pages:
        if path.endswith(("m4s", "ts")) and path != url:
            origin.pages[path] = Page(redirect="http://10.0.0.1/segment")

    job = await harness.ingest(url)

    assert reason_name_of(job) == "ADDRESS_FORBIDDEN", job
    await harness.assert_nothing_is_left()


@pytest.mark.parametrize("address", [b"file:///etc/passwd", b"/etc/passwd", b"concat:/etc/passwd"])
async def test_a_segment_cannot_be_a_file_of_this_machine(
    harness: Harness, origin: Origin, address: bytes
) -> None:
    page = Page(SEGMENT % address, content_type="application/vnd.apple.mpegurl")

    job = await harness.ingest(origin.serve("/list.m3u8", page))

    assert job.state == JOB_STATE_FAILED, job
    await harness.assert_nothing_is_left()
