"""The installed command `ingot upload`, with a real server and worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.json_format import Parse
from google.rpc.status_pb2 import Status

from ingot import Client, Job, JobKind, JobPriority, JobState
from ingot_server.library.uploads import PART_BYTES
from tests.ingot_command import CommandResult, run_command, run_on_terminal, start_command
from tests.integration.uploads.cutting_proxy import CuttingProxy
from tests.integration.uploads.upload_servers import UploadServers, clip

pytestmark = pytest.mark.any_stores


@pytest.fixture
async def working(servers: UploadServers) -> AsyncIterator[UploadServers]:
    """The servers, with a worker that runs jobs as they arrive."""

    async def work() -> None:
        async with Client(servers.targets[1]) as client, asyncio.TaskGroup() as jobs:
            async for job in client.watch_jobs(states=[JobState.JOB_STATE_QUEUED]):
                if isinstance(job, Job) and job.state == JobState.JOB_STATE_QUEUED:
                    jobs.create_task(servers.worker.run_job(job.id))

    task = asyncio.create_task(work())
    yield servers
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def upload(target: str, *arguments: str | Path) -> CommandResult:
    return await run_command(target, "upload", *arguments)


async def test_it_stores_a_file_and_shows_the_media(working: UploadServers, tmp_path: Path) -> None:
    path = tmp_path / "a clip.mp4"
    path.write_bytes(clip())
    code, stdout, stderr = await upload(working.targets[0], path, "--label", "a=b")
    assert code == 0, stderr
    assert "a clip" in stdout
    assert stderr.split()[0] == "uploading"
    assert stderr.split()[-1] == "succeeded"
    async with Client(working.targets[0]) as client:
        stored = [media async for media in client.list_media()]
    assert [media.labels for media in stored] == [{"a": "b"}]
    assert stored[0].id in stdout

    # The second time, nothing is sent and the same media is shown.
    code, stdout, _ = await upload(working.targets[0], path, "--json")
    assert code == 0
    job = Parse(stdout.splitlines()[-1], Job())
    assert job.media == stored[0]


async def test_it_converts_the_file_and_shows_what_was_made(
    working: UploadServers, tmp_path: Path
) -> None:
    path = tmp_path / "talk.mp4"
    path.write_bytes(clip())
    options = ["--recipe", "mp3,bitrate=64", "--priority", "high", "--json"]
    code, stdout, stderr = await upload(working.targets[0], path, *options)
    assert code == 0, stderr
    job = Parse(stdout.splitlines()[-1], Job())
    assert job.kind == JobKind.JOB_KIND_INGEST_AND_CONVERT
    assert job.priority == JobPriority.JOB_PRIORITY_HIGH
    assert [each.audio[0].codec for each in job.conversions] == ["mp3"]
    assert job.media.title == "talk"

    # The file is stored, so only what is missing is made.
    code, stdout, _ = await upload(working.targets[0], path, "--recipe", "wav", "--json")
    assert code == 0
    more = Parse(stdout.splitlines()[-1], Job())
    assert more.media == job.media
    assert [each.audio[0].codec for each in more.conversions] == ["pcm_s16le"]


async def test_a_recipe_that_does_not_fit_is_wrong_usage(
    servers: UploadServers, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip())
    code, stdout, stderr = await upload(servers.targets[0], path, "--recipe", "mp3,bitrate=7")
    assert (code, stdout) == (2, "")
    assert "bitrate of --recipe mp3,bitrate=7 must be" in stderr
    assert "header" not in stderr
    assert not await servers.left()


async def test_a_webhook_of_an_installation_that_has_no_secrets_is_wrong_usage(
    servers: UploadServers, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip())
    hook = ("--webhook", "https://hooks.test/ingot")
    code, stdout, stderr = await upload(servers.targets[0], path, *hook)
    assert (code, stdout) == (2, "")
    assert "[WEBHOOKS_NOT_CONFIGURED]" in stderr
    assert not await servers.left()


async def test_a_bar_shows_the_progress(working: UploadServers, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip(PART_BYTES))
    code, stdout, drawn = await run_on_terminal(working.targets[0], "upload", path)
    assert code == 0
    assert "clip" in stdout
    assert re.search(r"uploading.* of 8\.39 MB", drawn)
    assert "succeeded" in drawn


async def test_of_several_files_each_is_stored_or_says_why_not(
    working: UploadServers, tmp_path: Path
) -> None:
    names = {"one.mp4": clip(seed=1), "two.mp4": clip(seed=2), "empty.mp4": b"", "text": b"words"}
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "pipe")
    files = [tmp_path / name for name in (*names, "absent.mp4", ".", "pipe")]
    code, stdout, stderr = await upload(working.targets[0], *files)
    assert code == 2
    assert "one" in stdout
    assert "two" in stdout
    errors = [line for line in stderr.splitlines() if line.startswith("ingot: ")]
    assert f"ingot: {tmp_path}/absent.mp4: No such file or directory" in errors
    assert f"ingot: {tmp_path}: Is a directory" in errors
    assert f"ingot: {tmp_path}/pipe: Not a regular file" in errors
    assert [line for line in errors if line.startswith(f"ingot: {tmp_path}/empty.mp4: ")]
    assert len([line for line in errors if "[NOT_MEDIA]" in line]) == 2
    assert len(errors) == 5


async def test_a_file_that_cannot_be_uploaded_is_an_error(
    servers: UploadServers, tmp_path: Path
) -> None:
    (tmp_path / "empty.mp4").touch()
    for name, expected in (("absent.mp4", 2), (".", 2), ("empty.mp4", 1)):
        code, stdout, stderr = await upload(servers.targets[0], tmp_path / name)
        assert (code, stdout) == (expected, ""), name
        assert stderr.startswith("ingot: ")
        code, stdout, stderr = await upload(servers.targets[0], "--json", tmp_path / name)
        assert (code, stdout) == (expected, ""), name
        assert Parse(stderr, Status()).message
    assert (await upload(servers.targets[0]))[0] == 2
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip())
    assert (await upload(servers.targets[0], path, "--label", "nonsense"))[0] == 2
    code, stdout, _ = await upload(servers.targets[0], path, "--no-wait", "--json")
    assert (code, json.loads(stdout)["state"]) == (0, "JOB_STATE_QUEUED")


@pytest.mark.parametrize("size_bytes", [0, PART_BYTES // 2, PART_BYTES * 2])
async def test_a_file_that_changes_during_the_upload_is_named(
    servers: UploadServers, tmp_path: Path, size_bytes: int
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(bytes(PART_BYTES))

    def change(done: int, total: int) -> None:
        os.truncate(path, size_bytes)

    async with Client(servers.targets[0]) as client:
        with pytest.raises(OSError, match="The file changed while it was uploaded") as refused:
            await client.upload_media(path, progress=change)
    assert refused.value.filename == str(path)


async def test_a_file_name_that_is_not_utf_8_is_accepted(
    working: UploadServers, tmp_path: Path
) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    path.write_bytes(clip(seed=3))

    code, stdout, _ = await upload(working.targets[0], path)

    assert (code, "title     \N{REPLACEMENT CHARACTER}" in stdout) == (0, True)


async def test_the_same_command_resumes_an_interrupted_upload(
    working: UploadServers, tmp_path: Path
) -> None:
    content = clip(3 * PART_BYTES)
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    # The connection passes this many bytes, then stalls until the command is killed.
    held = CuttingProxy(working.targets, [], holds_after=2 * PART_BYTES)
    async with held as target:
        process = await start_command(target, "upload", path)
        await held.holding.wait()
        process.kill()
        await process.communicate()
    passed = CuttingProxy(working.targets, [])
    async with passed as target:
        code, stdout, stderr = await upload(target, path)
    assert code == 0, stderr
    assert "clip" in stdout
    assert passed.bytes_up < len(content)
    assert not await working.left()
