"""The options of each command reach the server in its request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from ingot import JobPriority, JobState, Selection
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest, ResolveRequest
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.job_service_pb2 import ListJobsRequest, RetryJobRequest
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
    GetStoryboardRequest,
    UpdateMediaRequest,
)
from tests.ingot_command import run_command
from tests.scripted_server import JOB_ID, MEDIA_ID, URL, ScriptedServer, running_scripted_server

HOOK = "https://hooks.test/ingot?token=1"
PINNED = FieldMask(paths=["pinned"])
SOUND = Selection(mode=Selection.MODE_AUDIO_ONLY)
LOW = Selection(mode=Selection.MODE_BEST, max_height=480)
EXACT = Selection(
    mode=Selection.MODE_BEST,
    min_height=720,
    audio_language="pt-BR",
    video_codecs=["h264", "vp9"],
    start_offset=Duration(seconds=90),
    end_offset=Duration(seconds=120, nanos=500_000_000),
    exact_offsets=True,
)
EXACTLY = [
    *("--min-height", "720", "--audio-language", "pt-BR"),
    *("--video-codec", "h264", "--video-codec", "vp9"),
    *("--start", "1:30", "--end", "120.5s", "--exact"),
]


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with running_scripted_server() as server:
        yield server


async def requests(
    server: ScriptedServer, arguments: Sequence[str], kind: type[Message], directory: Path
) -> list[Message]:
    """Run a command that has to succeed, and return the requests of one type that it sent."""
    code, _, stderr = await run_command(server.target, *arguments, directory=directory)
    assert code == 0, stderr
    return [request for request in server.requests if isinstance(request, kind)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["media", URL, "--audio-only"], GetMediaRequest(url=URL, selection=SOUND)),
        (["media", URL, "--max-height", "480"], GetMediaRequest(url=URL, selection=LOW)),
        (["media", URL, *EXACTLY], GetMediaRequest(url=URL, selection=EXACT)),
        (
            ["resolve", URL, *EXACTLY, "--playlist"],
            ResolveRequest(url=URL, selection=EXACT, options=IngestOptions(playlist=True)),
        ),
        (["rm", MEDIA_ID], DeleteMediaRequest(media_id=MEDIA_ID)),
        (["rm", URL], DeleteMediaRequest(url=URL)),
        (
            ["pin", MEDIA_ID],
            UpdateMediaRequest(media_id=MEDIA_ID, media=Media(pinned=True), update_mask=PINNED),
        ),
        (["unpin", URL], UpdateMediaRequest(url=URL, media=Media(), update_mask=PINNED)),
        (
            ["url", URL, "--audio-only", "--lifetime", "90s"],
            CreateDownloadUrlRequest(url=URL, selection=SOUND, lifetime=Duration(seconds=90)),
        ),
        (
            ["storyboard", MEDIA_ID, "--lifetime", "90s"],
            GetStoryboardRequest(media_id=MEDIA_ID, lifetime=Duration(seconds=90)),
        ),
        (
            ["jobs", "--state", "failed", "--state", "queued", "--label", "team=news"],
            ListJobsRequest(
                states=[JobState.JOB_STATE_FAILED, JobState.JOB_STATE_QUEUED],
                labels={"team": "news"},
            ),
        ),
        (
            ["retry", JOB_ID, "--webhook", HOOK, "--no-wait"],
            RetryJobRequest(job_id=JOB_ID, webhook_url=HOOK),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
async def test_a_command_asks_for_what_its_options_say(
    server: ScriptedServer, tmp_path: Path, arguments: list[str], expected: Message
) -> None:
    (asked,) = await requests(server, arguments, type(expected), tmp_path)

    if isinstance(asked, ListJobsRequest):
        asked.ClearField("page_size")
    if isinstance(asked, RetryJobRequest):
        asked.ClearField("request_id")
    assert asked == expected


@pytest.mark.parametrize("how", [[], ["--json"]], ids=["text", "json"])
async def test_a_download_is_of_the_form_that_its_options_say(
    server: ScriptedServer, tmp_path: Path, how: list[str]
) -> None:
    arguments = ["download", URL, "--audio-only", "-o", "clip.m4a", *how]
    await requests(server, arguments, DownloadRequest, tmp_path)
    named = [
        request
        for request in server.requests
        if isinstance(request, GetMediaRequest | DownloadRequest) and request.url
    ]

    assert named
    assert {request.selection.mode for request in named} == {Selection.MODE_AUDIO_ONLY}
    assert (tmp_path / "clip.m4a").read_bytes() == server.content


async def test_an_ingest_asks_for_all_that_its_options_say(
    server: ScriptedServer, tmp_path: Path
) -> None:
    arguments = [
        *("ingest", URL, "--playlist", "--max-entries", "3", "--record", "5s", "--thumbnail"),
        *("--subtitles", "en", "--subtitles", "de", "--automatic-subtitles"),
        *("--all-subtitles", "--storyboard", "--info"),
        *("--recipe", "mp3,bitrate=128", "--max-age", "1h", "--label", "a=b", "--no-wait"),
        *EXACTLY,
    ]
    (asked,) = await requests(server, arguments, IngestRequest, tmp_path)

    assert isinstance(asked, IngestRequest)
    assert asked.selection == EXACT
    options = asked.options
    assert (options.playlist, options.max_entries, options.thumbnail) == (True, 3, True)
    assert options.record_duration.seconds == 5
    assert (list(options.subtitle_languages), options.automatic_subtitles) == (["en", "de"], True)
    assert options.all_subtitles
    assert options.storyboard
    assert options.info
    assert [recipe.mp3.bitrate_kbps for recipe in asked.recipes] == [128]
    assert (asked.max_age.seconds, dict(asked.labels)) == (3600, {"a": "b"})


async def test_a_conversion_asks_for_all_that_its_options_say(
    server: ScriptedServer, tmp_path: Path
) -> None:
    arguments = [
        *("convert", URL, "--format", "mp3", "--bitrate", "128", "--start", "1", "--end", "2"),
        *("--audio-only", "--max-age", "1h", "--label", "a=b", "--priority", "high", "--no-wait"),
    ]
    (asked,) = await requests(server, arguments, ConvertRequest, tmp_path)

    assert isinstance(asked, ConvertRequest)
    assert (asked.url, asked.selection) == (URL, SOUND)
    recipe = asked.recipe
    assert recipe.mp3.bitrate_kbps == 128
    assert (recipe.start_offset.seconds, recipe.end_offset.seconds) == (1, 2)
    assert (asked.max_age.seconds, dict(asked.labels)) == (3600, {"a": "b"})
    assert asked.priority == JobPriority.JOB_PRIORITY_HIGH
