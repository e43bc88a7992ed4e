"""Ingests of a section of the media, by a real worker. ffmpeg decodes what is stored."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from ingot.v1.media_pb2 import Media, Selection
from tests.harness import Harness
from tests.origin import Origin, Page
from tests.presentations import pictures, segments, serve_hls, sound
from tests.refusals import reason_of, refused
from tests.sections import RATE, SECONDS, beeps, film, frames, serve

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

START, END = 4.5, 9.3
KEY_FRAME = 4.0
DISCONTINUITY = "#EXT-X-DISCONTINUITY\n"


def section(start: float | None = None, end: float | None = None, **fields: object) -> Selection:
    selection = Selection(**fields)  # type: ignore[arg-type] # by name
    if start is not None:
        selection.start_offset.FromTimedelta(timedelta(seconds=start))
    if end is not None:
        selection.end_offset.FromTimedelta(timedelta(seconds=end))
    return selection


async def stored(
    harness: Harness, url: str, selection: Selection, directory: Path
) -> tuple[Media, Path]:
    job = await harness.ingest(url, selection=selection)
    assert job.state == JOB_STATE_SUCCEEDED, job.error
    path = directory / "stored"
    path.write_bytes(await harness.download(media_id=job.media.id))
    await harness.assert_idle()
    return job.media, path


@pytest.mark.parametrize(
    ("form", "share"),
    [
        ("ts/list.m3u8", None),
        ("fmp4/list.m3u8", None),
        ("dash/list.mpd", None),
        ("film.mp4", 0.6),
        ("front.mp4", 0.6),
        ("film.webm", 0.6),
        ("film.ts", None),
    ],
)
async def test_a_section_begins_at_the_key_frame_and_ends_in_time(
    harness: Harness, origin: Origin, tmp_path: Path, form: str, share: float | None
) -> None:
    """`share` is how much of a file is fetched at most; None if it is all, or segments."""
    media, path = await stored(harness, serve(origin, form), section(START, END), tmp_path)

    assert media.section.start_offset.ToTimedelta().total_seconds() == pytest.approx(4, abs=0.05)
    assert media.section.end_offset.ToTimedelta().total_seconds() == pytest.approx(9.3, abs=0.15)
    assert media.duration.ToTimedelta().total_seconds() == pytest.approx(5.3, abs=0.15)
    assert frames(path) == list(range(round(KEY_FRAME * RATE), round(END * RATE)))
    assert beeps(path) == pytest.approx([0, 2, 4], abs=0.04)
    assert media.selection == section(START, END, mode=Selection.MODE_BEST)
    if share is not None:
        assert origin.bytes_sent(f"/{form}") < share * film(form).stat().st_size


@pytest.mark.parametrize("form", ["ts/list.m3u8", "dash/list.mpd", "film.mp4", "film.webm"])
async def test_an_exact_section_begins_and_ends_at_its_frames(
    harness: Harness, origin: Origin, tmp_path: Path, form: str
) -> None:
    exact = section(START, END, exact_offsets=True)

    media, path = await stored(harness, serve(origin, form), exact, tmp_path)

    assert frames(path) == list(range(round(START * RATE), round(END * RATE)))
    assert beeps(path) == pytest.approx([1.5, 3.5], abs=0.04)
    assert media.blob.content_type == "video/mp4"
    assert media.duration.ToTimedelta().total_seconds() == pytest.approx(END - START, abs=0.05)
    assert media.section.start_offset.ToTimedelta().total_seconds() == pytest.approx(START)


async def test_of_a_file_on_a_page_only_ranges_are_fetched(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    serve(origin, "film.mp4")
    html = b'<html><head><title>A film</title></head><video src="film.mp4"></video></html>'
    page = origin.serve("/page", Page(html, content_type="text/html"))

    media, path = await stored(harness, page, section(START, END), tmp_path)

    assert media.title
    assert frames(path) == list(range(round(KEY_FRAME * RATE), round(END * RATE)))
    assert origin.bytes_sent("/film.mp4") < 0.7 * film("film.mp4").stat().st_size


async def test_a_file_is_fetched_whole_if_its_server_sends_no_ranges(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    url = serve(origin, "film.mp4")
    origin.pages["/film.mp4"].ranges = False

    _, path = await stored(harness, url, section(START, END), tmp_path)

    assert frames(path) == list(range(round(KEY_FRAME * RATE), round(END * RATE)))
    assert origin.bytes_sent("/film.mp4") >= film("film.mp4").stat().st_size


async def test_a_file_that_changes_while_ranges_are_fetched_is_not_stored(
    harness: Harness, origin: Origin
) -> None:
    url = serve(origin, "film.mp4")
    page = origin.pages["/film.mp4"]
    page.etag, page.after_first = '"1"', Page(page.content, etag='"2"')

    job = await harness.ingest(url, selection=section(START, END))

    assert reason_of(job) == reason_pb2.REASON_TRUNCATED
    await harness.assert_idle()


@pytest.mark.parametrize(
    ("form", "needed", "others"),
    [
        ("ts/list.m3u8", {"/list2.ts", "/list3.ts", "/list4.ts"}, "/list"),
        (
            "dash/list.mpd",
            {
                f"/chunk-stream{stream}-0000{number}.m4s"
                for stream in (0, 1)
                for number in (3, 4, 5)
            },
            "/chunk",
        ),
    ],
)
async def test_only_the_segments_of_the_section_are_fetched(
    harness: Harness, origin: Origin, form: str, needed: set[str], others: str
) -> None:
    job = await harness.ingest(serve(origin, form), selection=section(START, END))

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    fetched = {each.path for each in origin.log if each.path.startswith(others)}
    media_segments = {path for path in fetched if path.endswith((".ts", ".m4s"))}
    assert {path for path in media_segments if "init" not in path} == needed


@pytest.mark.parametrize("form", ["fmp4/list.m3u8", "film.mp4"])
async def test_a_section_past_the_end_is_refused_with_the_length(
    harness: Harness, origin: Origin, form: str
) -> None:
    job = await harness.ingest(serve(origin, form), selection=section(SECONDS + 4))

    assert reason_of(job) == reason_pb2.REASON_SELECTION_UNAVAILABLE
    assert "16 s" in job.error.message
    assert "20 s" in job.error.message
    await harness.assert_idle()


async def test_a_section_of_the_sound_begins_with_the_packet_of_its_start(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    selection = section(5.5, 9, mode=Selection.MODE_AUDIO_ONLY)

    media, path = await stored(harness, serve(origin, "fmp4/list.m3u8"), selection, tmp_path)

    assert not media.video
    assert media.blob.content_type == "audio/mp4"
    assert media.section.start_offset.ToTimedelta().total_seconds() == pytest.approx(5.5, abs=0.03)
    assert beeps(path) == pytest.approx([0.5, 2.5], abs=0.05)


async def test_a_section_of_several_parts_is_joined(
    harness: Harness, origin: Origin, tmp_path: Path
) -> None:
    lines = segments(origin, "red", "ts") + DISCONTINUITY + segments(origin, "blue", "ts")
    url = serve_hls(origin, lines)

    media, path = await stored(harness, url, section(1.2, 3.5), tmp_path)

    assert media.section.start_offset.ToTimedelta().total_seconds() == pytest.approx(1, abs=0.05)
    colors = pictures(path)
    assert [color for color, _ in colors] == ["red", "blue"]
    assert [count for _, count in colors] == pytest.approx([25, 37.5], abs=1)
    assert sound(path)[1] == [440, 880]


async def test_a_section_of_an_object_in_a_bucket_is_refused(harness: Harness) -> None:
    url = f"s3://{harness.settings.s3_bucket}/clip.mp4"

    found = await refused(harness.ask(url, selection=section(1)))

    assert (found.reason, found.fields) == ("INVALID_REQUEST", {"selection.start_offset"})
    assert "recipe" in found.message
