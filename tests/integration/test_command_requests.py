"""What a command line asks for is what the server is asked for, whichever command it is."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from ingot import JobState, Selection
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.job_service_pb2 import ListJobsRequest
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DeleteMediaRequest,
    DownloadRequest,
    GetMediaRequest,
)
from tests.scripted_server import MEDIA_ID, URL, ScriptedServer, running_scripted_server
from tests.waiting import TIMEOUT_SECONDS

COMMAND = Path(sys.executable).with_name("ingot")
SOUND = Selection(mode=Selection.MODE_AUDIO_ONLY)
LOW = Selection(mode=Selection.MODE_BEST, max_height=480)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with running_scripted_server() as server:
        yield server


async def requests(
    server: ScriptedServer, arguments: Sequence[str], kind: type[Message], directory: Path
) -> list[Message]:
    """The requests of one kind that a command that succeeds has made."""
    process = await asyncio.create_subprocess_exec(
        COMMAND,
        *arguments,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "INGOT_SERVER": server.target},
        cwd=directory,
    )
    async with asyncio.timeout(TIMEOUT_SECONDS):
        _, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    return [request for request in server.requests if isinstance(request, kind)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["media", URL, "--audio-only"], GetMediaRequest(url=URL, selection=SOUND)),
        (["media", URL, "--max-height", "480"], GetMediaRequest(url=URL, selection=LOW)),
        (["rm", MEDIA_ID], DeleteMediaRequest(media_id=MEDIA_ID)),
        (
            ["url", URL, "--audio-only", "--lifetime", "90s"],
            CreateDownloadUrlRequest(url=URL, selection=SOUND, lifetime=Duration(seconds=90)),
        ),
        (
            ["jobs", "--state", "failed", "--state", "queued", "--label", "team=news"],
            ListJobsRequest(
                states=[JobState.JOB_STATE_FAILED, JobState.JOB_STATE_QUEUED],
                labels={"team": "news"},
            ),
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
        *("--recipe", "mp3,bitrate=128", "--max-age", "1h", "--label", "a=b", "--no-wait"),
    ]
    (asked,) = await requests(server, arguments, IngestRequest, tmp_path)

    assert isinstance(asked, IngestRequest)
    options = asked.options
    assert (options.playlist, options.max_entries, options.thumbnail) == (True, 3, True)
    assert options.record_duration.seconds == 5
    assert (list(options.subtitle_languages), options.automatic_subtitles) == (["en", "de"], True)
    assert [recipe.bitrate_kbps for recipe in asked.recipes] == [128]
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
    assert (asked.recipe.bitrate_kbps, asked.recipe.start.seconds, asked.recipe.end.seconds) == (
        *(128, 1, 2),
    )
    assert (asked.max_age.seconds, dict(asked.labels)) == (3600, {"a": "b"})
    assert asked.priority == IngestRequest.PRIORITY_HIGH
