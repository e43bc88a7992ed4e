"""Ingests of HLS and DASH that consist of parts: inserted advertisements, gaps, odd addresses.

ffmpeg decodes what is stored: a media item is all that its manifest announces, or a failure.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from tests.harness import Harness
from tests.origin import Origin, Page
from tests.presentations import (
    VIDEO,
    film,
    period,
    pictures,
    segments,
    serve_dash,
    serve_hls,
    sound,
)
from tests.refusals import reason_name_of

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

BOTH = [("red", 50), ("blue", 75)]
DISCONTINUITY = "#EXT-X-DISCONTINUITY\n"
STATIC = 'type="static"'
# As yt-dlp is told: once, and five retries.
FRAGMENT_TRIES = 6
FIVE_SECONDS = f'{STATIC} mediaPresentationDuration="PT5S"'


async def ingested(harness: Harness, url: str, directory: Path) -> Path:
    job = await harness.ingest(url)
    assert job.state == JOB_STATE_SUCCEEDED, job.error
    path = directory / "stored"
    path.write_bytes(await harness.download(media_id=job.media.id))
    await harness.assert_idle()
    return path


async def test_a_dash_manifest_is_all_of_its_periods(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    periods = period(origin, "red") + period(origin, "blue", attributes='start="PT2S"')

    path = await ingested(harness, serve_dash(origin, periods, FIVE_SECONDS), tmp_path)

    assert pictures(path) == BOTH
    seconds, pitches = sound(path)
    assert seconds == pytest.approx(5, abs=0.05)
    assert pitches == [440, 880]


def remote(origin: Origin, name: str) -> str:
    """A period that is elsewhere."""
    origin.serve("/remote", Page(period(origin, name).encode(), content_type="text/xml"))
    return '<Period xlink:href="remote" xlink:actuate="onLoad"/>'


async def test_periods_that_are_elsewhere_are_fetched(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    nothing = '<Period xlink:href="urn:mpeg:dash:resolve-to-zero:2013"/>'
    periods = remote(origin, "red") + nothing + period(origin, "blue", attributes='start="PT2S"')

    path = await ingested(harness, serve_dash(origin, periods, FIVE_SECONDS), tmp_path)

    assert pictures(path) == BOTH


async def test_a_period_without_sound_keeps_the_rest_in_time(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    silent = re.sub(r'(?s)<AdaptationSet id="1".*?</AdaptationSet>', "", period(origin, "red"))
    periods = silent + period(origin, "blue", attributes='start="PT2S"')

    path = await ingested(harness, serve_dash(origin, periods, FIVE_SECONDS), tmp_path)

    assert pictures(path) == BOTH
    seconds, pitches = sound(path)
    assert seconds == pytest.approx(5, abs=0.05)
    assert pitches == [0, 880]


def addressed(how: str) -> str:
    """The video of the blue film, by another way of addressing its segments."""
    name = "stream$RepresentationID$"
    chunks = [f"chunk-stream0-0000{number}.m4s" for number in (1, 2, 3)]
    start = '<Initialization sourceURL="init-stream0.m4s"/>'
    template = f'timescale="12800" initialization="init-{name}.m4s" startNumber="1"'
    sizes = [(film("blue", "dash") / each).stat().st_size for each in ("init-stream0.m4s", *chunks)]
    ends = [sum(sizes[: number + 1]) for number in range(4)]
    ranges = [f"{end - size}-{end - 1}" for end, size in zip(ends, sizes, strict=True)]
    timeline = '<SegmentTimeline><S t="0" d="12800" r="{}"/></SegmentTimeline>'
    return {
        "repeated to the end": f'<SegmentTemplate {template} media="chunk-{name}-$Number%05d$.m4s">'
        f"{timeline.format(-1)}</SegmentTemplate>",
        "numbers": f'<SegmentTemplate {template} duration="12800" '
        f'media="chunk-{name}-$Number%05d$.m4s"/>',
        "times": f'<SegmentTemplate {template} media="at-$Time$">'
        f"{timeline.format(2)}</SegmentTemplate>",
        "list": f'<SegmentList duration="1">{start}'
        + "".join(f'<SegmentURL media="{each}"/>' for each in chunks)
        + "</SegmentList>",
        "byte ranges": f'<BaseURL>all.mp4</BaseURL><SegmentList duration="1">'
        f'<Initialization range="{ranges[0]}"/>'
        + "".join(f'<SegmentURL mediaRange="{each}"/>' for each in ranges[1:])
        + "</SegmentList>",
        "one file": "<BaseURL>all.mp4</BaseURL>",
    }[how]


def serve_addressed(origin: Origin, how: str) -> str:
    text = period(origin, "blue")
    content = b""
    for number, name in enumerate(("init-stream0", *(f"chunk-stream0-0000{n}" for n in "123"))):
        page = origin.pages[f"/blue/{name}.m4s"]
        origin.serve(f"/blue/at-{12800 * (number - 1)}", page)
        content += page.content
    origin.serve("/blue/all.mp4", Page(content))
    attributes = f'{STATIC} mediaPresentationDuration="PT3S"'
    return serve_dash(origin, VIDEO.sub(addressed(how), text, count=1), attributes)


@pytest.mark.parametrize(
    "how", ["repeated to the end", "numbers", "times", "list", "byte ranges", "one file"]
)
async def test_every_segment_arrives_however_it_is_addressed(
    harness: Harness, origin: Origin, tmp_path: Path, how: str
) -> None:
    path = await ingested(harness, serve_addressed(origin, how), tmp_path)

    assert pictures(path) == [("blue", 75)]
    seconds, pitches = sound(path)
    assert seconds == pytest.approx(3, abs=0.05)
    assert pitches == [880, 880]


async def test_byte_ranges_of_a_server_without_ranges_are_refused(
    harness: Harness, origin: Origin
) -> None:
    url = serve_addressed(origin, "byte ranges")
    origin.pages["/blue/all.mp4"].ranges = False

    job = await harness.ingest(url)

    assert reason_name_of(job) == "TRUNCATED", job
    await harness.assert_nothing_is_left()


async def test_an_advertisement_of_another_size_is_refused(
    harness: Harness, origin: Origin
) -> None:
    periods = period(origin, "wide") + period(origin, "blue", attributes='start="PT2S"')

    job = await harness.ingest(serve_dash(origin, periods, FIVE_SECONDS))

    assert reason_name_of(job) == "SELECTION_UNAVAILABLE"
    assert "96x48" in job.error.message
    assert "64x48" in job.error.message
    await harness.assert_nothing_is_left()


async def test_a_manifest_that_lists_less_than_it_announces_is_truncated(
    harness: Harness, origin: Origin
) -> None:
    job = await harness.ingest(serve_dash(origin, period(origin, "blue"), FIVE_SECONDS))

    assert reason_name_of(job) == "TRUNCATED"
    assert "announced 5 s" in job.error.message
    await harness.assert_nothing_is_left()


async def test_dash_that_goes_on_is_a_live_stream(harness: Harness, origin: Origin) -> None:
    attributes = 'type="dynamic" minimumUpdatePeriod="PT2S"'

    job = await harness.ingest(serve_dash(origin, period(origin, "blue"), attributes))

    assert reason_name_of(job) == "LIVE_STREAM"


@pytest.mark.parametrize("packing", ["ts", "fmp4"])
async def test_hls_is_all_of_its_parts(
    harness: Harness, origin: Origin, tmp_path: Path, packing: str
) -> None:
    lines = segments(origin, "red", packing) + DISCONTINUITY + segments(origin, "blue", packing)

    path = await ingested(harness, serve_hls(origin, lines), tmp_path)

    assert pictures(path) == BOTH
    seconds, pitches = sound(path)
    assert seconds == pytest.approx(5, abs=0.1)
    assert pitches == [440, 880]


async def test_hls_parts_of_another_size_are_refused(harness: Harness, origin: Origin) -> None:
    lines = segments(origin, "wide", "ts") + DISCONTINUITY + segments(origin, "blue", "ts")

    job = await harness.ingest(serve_hls(origin, lines))

    assert reason_name_of(job) == "SELECTION_UNAVAILABLE"
    await harness.assert_nothing_is_left()


async def test_a_missing_segment_is_named(harness: Harness, origin: Origin) -> None:
    url = serve_hls(origin, segments(origin, "blue", "ts"))
    del origin.pages["/blue/list1.ts"]

    job = await harness.ingest(url)

    assert reason_name_of(job) == "TRUNCATED"
    assert "Segment 2 of 3 is missing at the source (HTTP 404)" in job.error.message
    await harness.assert_nothing_is_left()


async def test_a_segment_that_is_missing_before_an_earlier_one_has_arrived_is_named(
    harness: Harness, origin: Origin
) -> None:
    url = serve_hls(origin, segments(origin, "blue", "ts"))
    earlier, missing = "/blue/list0.ts", "/blue/list1.ts"
    del origin.pages[missing]
    origin.pages[earlier].gate = arrives = asyncio.Event()

    ingesting = asyncio.create_task(harness.ingest(url))
    while len(origin.gets(missing)) < FRAGMENT_TRIES:
        await origin.arrived(len(origin.log) + 1)
    await origin.gets(missing)[-1].ended.wait()
    arrives.set()
    job = await ingesting

    assert reason_name_of(job) == "TRUNCATED"
    assert "Segment 2 of 3 is missing at the source (HTTP 404)" in job.error.message
    await harness.assert_nothing_is_left()


async def test_a_gap_is_not_left_out(harness: Harness, origin: Origin) -> None:
    lines = segments(origin, "blue", "ts").replace("blue/list1.ts", "#EXT-X-GAP\nblue/list1.ts")

    job = await harness.ingest(serve_hls(origin, lines))

    assert reason_name_of(job) == "TRUNCATED"
    await harness.assert_nothing_is_left()


async def test_pictures_for_fast_forward_are_no_media(harness: Harness, origin: Origin) -> None:
    lines = "#EXT-X-I-FRAMES-ONLY\n" + segments(origin, "blue", "ts")

    job = await harness.ingest(serve_hls(origin, lines))

    assert reason_name_of(job) == "NOT_MEDIA"
    assert "fast forward" in job.error.message


async def test_hls_that_lists_less_than_it_announces_is_truncated(
    harness: Harness, origin: Origin
) -> None:
    lines = segments(origin, "blue", "ts").replace("#EXTINF:1.000000", "#EXTINF:3.000001", 1)

    job = await harness.ingest(serve_hls(origin, lines))

    assert reason_name_of(job) == "TRUNCATED"
    await harness.assert_nothing_is_left()
