"""The main job, on the whole system: one URL in, one media out, watched live."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import uuid
from datetime import timedelta
from pathlib import Path

import pytest

from ingot import Client, IngotError, JobCancelled, MediaDoesNotExist, MediaNotFound
from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from tests.ingot_command import CommandResult, run_command
from tests.installation import FOREIGN_VARIABLES, Installation, installation, names_below
from tests.origin import Origin, Page
from tests.waiting import TIMEOUT_SECONDS, until

MANY = 1000
CONNECTIONS = 4


@pytest.fixture
def path() -> str:
    """A path no other test has used: what is stored once stays stored."""
    return f"/{uuid.uuid4().hex}.mp4"


async def test_one_url_in_one_media_out(
    client: Client, origin: Origin, clip: bytes, path: str, tmp_path: Path
) -> None:
    url = origin.serve(path, Page(clip))

    job = await client.ingest_video(url)
    updates = [update async for update in job]
    media = await job

    assert updates[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    assert media.blob.sha256 == hashlib.sha256(clip).hexdigest()
    assert media.blob.size_bytes == len(clip)
    assert media.blob.content_type == "video/mp4"
    assert [(stream.codec, stream.width, stream.height) for stream in media.video] == [
        ("h264", 160, 120)
    ]
    assert [stream.codec for stream in media.audio] == ["aac"]
    assert (await client.media(url)).id == media.id
    await client.download(url, tmp_path / "copy.mp4")
    assert (tmp_path / "copy.mp4").read_bytes() == clip


async def test_variables_of_libraries_decide_nothing(
    ingot: Installation, origin: Origin, clip: bytes, path: str, tmp_path: Path
) -> None:
    """The installation runs with all of them; the command line goes to loopback without a proxy."""
    url = origin.serve(path, Page(clip))

    result = await run_command(
        ingot.grpc_address, "mp3", url, directory=tmp_path, environment=FOREIGN_VARIABLES
    )

    assert result.code == 0, result.stderr
    assert [file.suffix for file in tmp_path.iterdir()] == [".mp3"]


async def test_a_thousand_callers_share_one_download(
    ingot: Installation, origin: Origin, clip: bytes, path: str
) -> None:
    # Under way until all have called.
    called = asyncio.Event()
    url = origin.serve(path, Page(clip, gate=called))
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(Client(ingot.grpc_address)) for _ in range(CONNECTIONS)
        ]
        jobs = await asyncio.gather(
            *(clients[number % CONNECTIONS].ingest_video(url) for number in range(MANY))
        )
        called.set()
        media = await asyncio.gather(*jobs)
        again = await asyncio.gather(*(clients[0].ingest_video(url) for _ in range(100)))

    assert len({job.id for job in jobs}) == 1
    assert len({stored.id for stored in media}) == 1
    assert len(origin.gets(path)) == 1
    assert all(job.latest.cached and job.done for job in again)


async def test_watchers_see_every_state_in_order_and_the_end(
    client: Client, origin: Origin, clip: bytes, path: str
) -> None:
    url = origin.serve(path, Page(clip, rate=len(clip) / 1.5))

    job = await client.ingest_video(url)
    updates: list[Job] = [update async for update in job]
    late = [update async for update in await client.job(job.id)]

    revisions = [update.revision for update in updates]
    states = [update.state for update in updates]
    assert revisions == sorted(set(revisions))
    assert list(dict.fromkeys(states))[-2:] == [
        job_pb2.JOB_STATE_RUNNING,
        job_pb2.JOB_STATE_SUCCEEDED,
    ]
    fractions = [update.progress.fraction for update in updates]
    assert fractions == sorted(fractions)
    assert len(set(fractions)) > 2
    assert [update.revision for update in late] == revisions[-1:]


async def test_cancel_closes_the_connection_and_leaves_nothing(
    ingot: Installation, client: Client, origin: Origin, path: str
) -> None:
    url = origin.serve(path, Page(endless=True, rate=2_000_000))
    job = await client.ingest_video(url)
    async for update in job:
        if update.progress.stage.bytes_done > 0:
            break

    await job.cancel()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await origin.gets(path)[0].ended.wait()
    with pytest.raises(JobCancelled):
        await job

    with pytest.raises(MediaNotFound):
        await client.media(url)
    scratch = ingot.data_dir / "scratch"
    await until(lambda: not any(job.id in name for name in names_below(scratch)))
    assert not ingot.bucket_keys(f"media/{job.latest.media.id}/")


FAILURES = {
    "not found": (Page(status=404), "MEDIA_DOES_NOT_EXIST"),
    "gone": (Page(status=410), "MEDIA_DOES_NOT_EXIST"),
    "forbidden": (Page(status=403), "PRIVATE"),
    "server error": (Page(status=500), "SOURCE_FAILED"),
    "shorter than announced": (
        Page(b"\0" * 1000, announce=5000, ranges=False),
        "TRUNCATED",
    ),
    "endless": (Page(endless=True), "TOO_LARGE"),
    "too large": (Page(size=65 << 20), "TOO_LARGE"),
    "a web page": (Page(b"<html><body>no</body></html>", content_type="text/html"), "NOT_MEDIA"),
    "a page that claims to be video": (Page(b"<html><body>no</body></html>" * 99), "NOT_MEDIA"),
    "empty": (Page(b""), "NOT_MEDIA"),
    "a playlist of local files": (Page(b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"), "NOT_MEDIA"),
    "redirect to a forbidden address": (
        Page(redirect="http://169.254.169.254/latest"),
        "ADDRESS_FORBIDDEN",
    ),
    "redirect to a file": (Page(redirect="file:///etc/passwd"), "UNSUPPORTED_URL"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_what_cannot_be_ingested_fails_with_its_reason_and_stores_nothing(
    client: Client, origin: Origin, path: str, name: str
) -> None:
    page, reason = FAILURES[name]
    url = origin.serve(path, page)

    with pytest.raises(IngotError) as failed:
        await (await client.ingest_video(url))

    assert failed.value.reason == reason
    assert failed.value.message
    with pytest.raises((MediaNotFound, MediaDoesNotExist)):
        await client.media(url)


async def test_what_does_not_come_is_given_up(tmp_path: Path, origin: Origin) -> None:
    settings = {"workers": "1", "convert_workers": "0", "attempts": "2"}
    with installation(tmp_path, stall_timeout="2s", connect_timeout="2s", **settings) as hasty:
        async with Client(hasty.grpc_address) as client:
            for path, page in {
                "/silent.mp4": Page(silent_after=-1),
                "/a-byte-a-second.mp4": Page(size=100_000, rate=1),
            }.items():
                with pytest.raises(IngotError) as failed:
                    await (await client.ingest_video(origin.serve(path, page)))
                assert failed.value.reason == "STALLED", path


async def test_a_circle_of_redirects_ends(client: Client, origin: Origin, path: str) -> None:
    url = origin.serve(path, Page(redirect=path))

    with pytest.raises(IngotError) as failed:
        await (await client.ingest_video(url))

    assert failed.value.reason == "TOO_MANY_REDIRECTS"


async def test_a_closed_port_and_an_unknown_host_have_different_reasons(
    client: Client, closed_port: int
) -> None:
    reasons = []
    for url in (f"http://127.0.0.1:{closed_port}/a.mp4", "http://no-such-host.invalid/a.mp4"):
        with pytest.raises(IngotError) as failed:
            await (await client.ingest_video(url))
        reasons.append(failed.value.reason)

    assert reasons == ["SOURCE_UNREACHABLE", "HOST_NOT_FOUND"]


async def test_what_does_not_exist_is_remembered_until_a_caller_wants_to_know(
    client: Client, origin: Origin, clip: bytes, path: str
) -> None:
    url = origin.serve(path, Page(status=404))
    with pytest.raises(MediaDoesNotExist):
        await (await client.ingest_video(url))
    origin.serve(path, Page(clip))

    with pytest.raises(MediaDoesNotExist):
        await (await client.ingest_video(url))
    assert len(origin.gets(path)) == 1

    media = await (await client.ingest_video(url, max_age=timedelta(0)))
    assert media.blob.size_bytes == len(clip)


async def test_a_changed_file_replaces_the_stored_one_past_max_age(
    client: Client, origin: Origin, clip: bytes, other_clip: bytes, path: str
) -> None:
    url = origin.serve(path, Page(clip, etag='"one"'))
    first = await (await client.ingest_video(url))

    unchanged = await client.ingest_video(url, max_age=timedelta(0))
    assert (await unchanged).blob.url == first.blob.url
    assert unchanged.latest.cached
    assert origin.log[-1].status == 304

    origin.serve(path, Page(other_clip, etag='"two"'))
    assert (await (await client.ingest_video(url))).blob.sha256 == first.blob.sha256
    changed = await (await client.ingest_video(url, max_age=timedelta(0)))

    assert changed.id == first.id
    assert changed.blob.sha256 == hashlib.sha256(other_clip).hexdigest()
    assert (await client.media(url)).blob.sha256 == changed.blob.sha256


async def test_a_broken_connection_is_resumed_where_it_broke(
    client: Client, origin: Origin, clip: bytes, path: str
) -> None:
    url = origin.serve(path, Page(clip, etag='"one"', breaks=[len(clip) // 3, len(clip) // 3]))

    media = await (await client.ingest_video(url))

    assert media.blob.sha256 == hashlib.sha256(clip).hexdigest()
    assert origin.bytes_sent(path) == len(clip)
    assert len(origin.gets(path)) == 3


async def test_the_command_line_does_the_whole_way(
    ingot: Installation, origin: Origin, clip: bytes, path: str, tmp_path: Path
) -> None:
    url = origin.serve(path, Page(clip))

    async def run(*arguments: str) -> CommandResult:
        return await run_command(ingot.grpc_address, *arguments)

    code, output, _ = await run("media", url)
    assert (code, output) == (1, "")

    code, output, _ = await run("--json", "ingest", url)
    messages = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    assert messages

    code, output, _ = await run("--json", "media", url)
    media = json.loads(output)
    assert (code, media["url"]) == (0, url)

    code, *_ = await run("download", url, "-o", str(tmp_path / "clip.mp4"))
    assert code == 0
    assert (tmp_path / "clip.mp4").read_bytes() == clip

    code, output, _ = await run("jobs")
    assert code == 0
    assert "SUCCEEDED" in output.upper()

    code, *_ = await run("rm", media["id"])
    assert code == 0
    code, *_ = await run("media", url)
    assert code == 1

    code, _, errors = await run("ingest", "http://127.0.0.1:1/" + "a" * 10_000)
    assert code == 2
    assert "url" in errors.lower()

    code, *_ = await run("frobnicate")
    assert code == 2
