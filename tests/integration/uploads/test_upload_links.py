"""Uploads by signed links: parts that a browser sends in any order, and that resume."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import grpc

from ingot import Client
from ingot.v1.ingest_service_pb2 import QueryUploadResponse
from ingot.v1.job_pb2 import IngestOptions, JobPriority, JobState
from ingot_server.config import Settings
from ingot_server.setting_values import ByteSize
from tests.integration.uploads.browser import put
from tests.integration.uploads.upload_servers import SHA, UploadServers, clip, running_servers
from tests.refusals import reason_name_of, refused

PART = 40_000


def ranges(response: QueryUploadResponse) -> list[tuple[int, int]]:
    return [(each.offset, each.size_bytes) for each in response.ranges]


async def send_part(servers: UploadServers, upload_id: str, content: bytes, offset: int) -> None:
    data = content[offset : offset + PART]
    link = await servers.part_link(upload_id, offset, len(data))
    assert (link.upload_id, link.offset, link.part_size_bytes) == (upload_id, offset, len(data))
    assert await put(link.url, data) == 200


async def test_a_page_of_another_origin_sends_parts_in_any_order_and_repeats_them(
    servers: UploadServers,
) -> None:
    content = clip(5 * PART + 17)
    begun = await servers.link(content, filename="from the web.mp4", part_size_bytes=PART)
    upload_id = begun.upload_id
    for offset in (5 * PART, 2 * PART, 3 * PART, 2 * PART):
        await send_part(servers, upload_id, content, offset)
    found = await servers.query(upload_id)
    assert found.committed_size == 0
    assert ranges(found) == [(2 * PART, 2 * PART), (5 * PART, 17)]
    gap = await refused(servers.complete(upload_id))
    assert (gap.code, gap.reason) == (grpc.StatusCode.OUT_OF_RANGE, "UPLOAD_OFFSET_MISMATCH")

    assert await put(begun.url, content[:PART]) == 200
    gap = await refused(servers.complete(upload_id))
    assert f"from offset {PART} on" in gap.message
    await asyncio.gather(
        *(send_part(servers, upload_id, content, offset) for offset in (PART, 4 * PART, PART))
    )
    job = await servers.ended(await servers.complete(upload_id))
    assert await servers.content(job.media) == content
    assert job.media.title == "from the web"
    assert not await servers.left()


async def test_a_page_that_was_closed_resumes_with_other_parts(servers: UploadServers) -> None:
    content = clip(4 * PART)
    upload_id = (await servers.link(content)).upload_id
    for offset in (0, 2 * PART):
        await send_part(servers, upload_id, content, offset)
    # Another page, which only knows the id, sends the rest in one part that overlaps.
    found = await servers.query(upload_id)
    rest = content[found.committed_size : -5]
    link = await servers.part_link(upload_id, found.committed_size, len(rest))
    assert await put(link.url, rest) == 200
    link = await servers.part_link(upload_id, len(content) - PART, 0)
    assert link.part_size_bytes == PART
    assert await put(link.url, content[-PART:]) == 200
    assert ranges(await servers.query(upload_id)) == [(0, len(content))]
    # A part that was on its way for long takes nothing away.
    late = await servers.part_link(upload_id, 0, 9)
    assert await put(late.url, content[:9]) == 200

    job = await servers.ended(await servers.complete(upload_id))
    assert await servers.content(job.media) == content


async def test_a_link_takes_only_the_size_that_it_was_made_for(servers: UploadServers) -> None:
    content = clip(2 * PART)
    begun = await servers.link(content, part_size_bytes=PART)
    for wrong in (content[: PART - 1], content[: PART + 1], b""):
        assert await put(begun.url, wrong) == 403
    assert not ranges(await servers.query(begun.upload_id))
    assert await put(begun.url, content[:PART]) == 200
    assert ranges(await servers.query(begun.upload_id)) == [(0, PART)]


async def test_the_job_is_found_by_its_upload_after_its_end(servers: UploadServers) -> None:
    content = clip()
    begun = await servers.link(content)
    assert not (await servers.query(begun.upload_id)).HasField("job")
    assert await put(begun.url, content) == 200
    # Whoever is not sure that it arrived calls again.
    job = await servers.complete(begun.upload_id, labels={"by": "browser"})
    assert (await servers.complete(begun.upload_id, server=1)).id == job.id
    assert (await servers.query(begun.upload_id)).job.id == job.id
    ended = await servers.ended(job)
    assert ended.media.labels == {"by": "browser"}

    assert await servers.complete(begun.upload_id) == ended
    found = await servers.query(begun.upload_id)
    assert (found.job, found.committed_size) == (ended, len(content))
    assert not found.HasField("expire_time")
    assert not ranges(found)
    answer = await servers.part_link(begun.upload_id, 0, 0)
    assert (answer.job, answer.url) == (ended, "")
    assert await servers.send(b"", upload_id=begun.upload_id) == ended
    # A part that comes after the end changes nothing.
    assert await put(begun.url, bytes(len(content))) == 200
    assert await servers.content(ended.media) == content
    assert (await servers.query(begun.upload_id)).job == ended


async def test_a_job_that_failed_is_found_too_and_can_be_retried(
    settings: Settings,
) -> None:
    content = clip()
    settings = settings.replace(http_address="", attempts=1)
    async with running_servers(settings.replace(scratch_reserve=ByteSize(1 << 60))) as servers:
        begun = await servers.link(content, filename="kept.mp4")
        assert await put(begun.url, content) == 200
        failed = await servers.ended(await servers.complete(begun.upload_id))
        assert reason_name_of(failed) == "SCRATCH_FULL"
        assert await servers.complete(begun.upload_id) == failed
    async with running_servers(settings) as servers, Client(servers.targets[0]) as client:
        again = (await client.retry(failed.id)).latest
        assert (again.display_name, again.url) == ("kept.mp4", failed.url)
        assert (await servers.query(begun.upload_id)).job.id == again.id
        ended = await servers.ended(again)
        assert await servers.content(ended.media) == content
        assert await servers.complete(begun.upload_id) == ended


async def test_a_request_id_begins_one_upload(servers: UploadServers) -> None:
    content = clip()
    first = await servers.link(content, request_id="mine", filename="a.mp4")
    assert await put(first.url, content) == 200
    again = await servers.link(content, request_id="mine", filename="a.mp4")
    assert again.upload_id == first.upload_id
    assert await put(again.url, content) == 200
    other = await refused(servers.link(content, request_id="mine", filename="b.mp4"))
    assert (other.code, other.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    assert (await servers.link(content, request_id="yours")).upload_id != first.upload_id

    complete: dict[str, Any] = {"request_id": "complete", "labels": {"a": "b"}}
    job = await servers.complete(first.upload_id, **complete)
    assert (await servers.complete(first.upload_id, **complete)).id == job.id
    reused = await refused(servers.complete(first.upload_id, request_id="complete"))
    assert reused.reason == "REQUEST_ID_REUSED"
    ended = await servers.ended(job)
    after = await servers.link(content, request_id="mine", filename="a.mp4")
    assert (after.upload_id, after.job, after.url) == (first.upload_id, ended, "")


async def test_completion_replaces_what_was_said_at_the_beginning(servers: UploadServers) -> None:
    content = clip()
    said: dict[str, Any] = {"labels": {"a": "1", "b": "2"}, "priority": "JOB_PRIORITY_LOW"}
    kept = await servers.link(content, **said)
    assert await put(kept.url, content) == 200
    job = await servers.complete(kept.upload_id)
    assert (job.labels, job.priority) == (said["labels"], JobPriority.JOB_PRIORITY_LOW)

    other = clip(seed=2)
    replaced = await servers.link(other, **said)
    assert await put(replaced.url, other) == 200
    job = await servers.complete(
        replaced.upload_id, labels={"c": "3"}, priority="JOB_PRIORITY_HIGH"
    )
    assert job.labels == {"c": "3"}
    assert job.priority == JobPriority.JOB_PRIORITY_HIGH


async def test_what_cannot_be_an_upload_is_refused_when_it_begins(settings: Settings) -> None:
    small = settings.replace(max_media_size=ByteSize(1 << 20), http_address="")
    async with running_servers(small) as servers:
        too_large = await refused(servers.link(bytes((1 << 20) + 1)))
        assert (too_large.code, too_large.reason) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "TOO_LARGE",
        )
        for fields, name in (
            ({"size_bytes": 0}, "size_bytes"),
            ({"content_type": ""}, "content_type"),
            ({"sha256": "x"}, "sha256"),
            ({"offset": 5}, "offset"),
            ({"part_size_bytes": 6}, "part_size_bytes"),
            ({"part_size_bytes": (64 << 20) + 1}, "part_size_bytes"),
            ({"options": IngestOptions(playlist=True)}, "options.playlist"),
            ({"recipes": [{"mp3": {"bitrate_kbps": 1}}]}, "recipes[0].mp3.bitrate_kbps"),
        ):
            found = await refused(servers.link(b"12345", **fields))
            assert (found.reason, found.fields) == ("INVALID_REQUEST", {name}), fields
        assert not await servers.left()


async def test_a_wrong_sha256_or_a_call_that_does_not_fit_is_refused(
    servers: UploadServers,
) -> None:
    content = clip()
    begun = await servers.link(content)
    assert await put(begun.url, content) == 200
    for fields in ({"size_bytes": 7}, {"labels": {"a": "b"}}, {"request_id": "r"}):
        asked: dict[str, Any] = {"size_bytes": 0, "content_type": "", "upload_id": begun.upload_id}
        found = await refused(servers.link(content, **asked | fields))
        assert (found.reason, found.fields) == ("INVALID_REQUEST", set(fields))
    thumbnail = IngestOptions(thumbnail=True)
    found = await refused(servers.complete(begun.upload_id, options=thumbnail))
    assert (found.reason, found.fields) == ("INVALID_REQUEST", {"options.thumbnail"})
    never = await refused(servers.complete("never"))
    assert (never.code, never.reason) == (grpc.StatusCode.NOT_FOUND, "UPLOAD_NOT_FOUND")
    assert (await refused(servers.part_link("never", 0, 0))).reason == "UPLOAD_NOT_FOUND"

    ended = await servers.ended(await servers.complete(begun.upload_id, sha256=SHA))
    assert ended.state == JobState.JOB_STATE_FAILED
    assert "SHA-256" in ended.error.message
    assert not await servers.left()
    known = await servers.link(content, sha256=SHA)
    assert await put(known.url, content) == 200
    found = await refused(servers.complete(known.upload_id, sha256="1" * 64))
    assert (found.reason, found.fields) == ("INVALID_REQUEST", {"sha256"})


async def test_a_link_that_is_spoiled_or_past_its_time_takes_nothing(
    servers: UploadServers,
) -> None:
    content = clip()
    put_there = await servers.link(content, lifetime=timedelta(seconds=1))
    other = await servers.link(content)
    spoiled = other.url.replace(
        f"X-Amz-Signature={other.url.partition('X-Amz-Signature=')[2][:8]}",
        "X-Amz-Signature=00000000",
    )
    assert await put(spoiled, content) == 403
    moved = other.url.replace("/uploads/", "/media/")
    assert await put(moved, content) == 403
    # Signatures are good to the second.
    await asyncio.sleep(2.5)
    assert await put(put_there.url, content) in (400, 403)
    assert (await refused(servers.complete(put_there.upload_id))).reason == "UPLOAD_OFFSET_MISMATCH"


async def test_a_link_works_no_longer_than_its_upload_waits(settings: Settings) -> None:
    settings = settings.replace(upload_ttl=timedelta(minutes=5), http_address="")
    async with running_servers(settings) as servers:
        asked = time.time()
        put_there = await servers.link(b"12345")
        answered = time.time()
        assert "X-Amz-Expires=300" in put_there.url
        waiting = await servers.query(put_there.upload_id)
        for each in (put_there, waiting):
            # Listings tell times in seconds.
            assert asked - 1 <= each.expire_time.seconds - 300 <= answered + 1


async def test_however_the_same_content_comes_it_is_one_media(servers: UploadServers) -> None:
    content = clip()
    put_there = await servers.link(content)
    assert await put(put_there.url, content) == 200
    await servers.blobs.put("incoming/clip.mp4", content, content_type="video/mp4")
    jobs = [
        await servers.complete(put_there.upload_id),
        await servers.send(content, upload_id="streamed"),
        await servers.send(content, server=1, upload_id="streamed-again"),
    ]
    async with Client(servers.targets[0]) as client:
        adopting = (await client.ingest_video(servers.blobs.url("incoming/clip.mp4"))).latest
        *uploaded, adopted = await asyncio.gather(*map(servers.ended, [*jobs, adopting]))
        assert len({job.media.id for job in uploaded}) == 1
        assert len({job.media.blob.url for job in uploaded}) == 1
        # What others put there and may replace is known by its address.
        assert adopted.media.id != uploaded[0].media.id
        assert adopted.media.blob.sha256 == uploaded[0].media.blob.sha256
        assert len([media async for media in client.list_media()]) == 2
    assert len(await servers.blobs.list_objects("media/")) == 3
    assert not await servers.left()
