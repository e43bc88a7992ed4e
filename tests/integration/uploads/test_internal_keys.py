"""Internal keys: what lies in the bucket is named, and adopted where others put it."""

from __future__ import annotations

import grpc
import pytest

from ingot import Client, IngotError
from ingot.v1.job_pb2 import JobState
from tests.integration.uploads.upload_servers import UploadServers, clip


async def test_an_object_of_others_is_adopted_where_it_lies(servers: UploadServers) -> None:
    content = clip()
    await servers.blobs.put("incoming/my clip.mp4", content, content_type="video/mp4")
    url = servers.blobs.url("incoming/my clip.mp4")
    async with Client(servers.targets[0]) as client:
        job = await client.ingest_video(url)
        ended = await servers.ended(job.latest)
        assert ended.state == JobState.JOB_STATE_SUCCEEDED
        stored = await job
        assert (stored.blob.url, stored.title, stored.source.name) == (url, "my clip", "internal")
        assert [item.key for item in await servers.blobs.list_objects("media/")] == [
            f"media/{stored.id}/media.json"
        ]
        for form in (url, url.replace("s3://", "gs://"), f" {url.replace('s3', 'S3', 1)} "):
            assert await client.media(form) == stored
            assert (await client.ingest_video(form)).latest.cached

        # Put there again, it is another media behind the same name.
        await servers.blobs.put("incoming/my clip.mp4", clip(seed=2), content_type="video/mp4")
        again = await client.ingest_video(url)
        assert not again.done
        await servers.ended(again.latest)
        newer = await again
        assert newer.id == stored.id
        assert newer.blob.sha256 != stored.blob.sha256
        assert newer.create_time == stored.create_time

        await client.delete_media(newer.id)
        assert await servers.blobs.stat("incoming/my clip.mp4") is not None
        # Only its tombstone is left.
        left = [each.key for each in await servers.blobs.list_objects("media/")]
        assert left == [f"media/{newer.id}/media.json"]


async def test_a_stored_file_names_its_media(servers: UploadServers) -> None:
    job = await servers.ended(await servers.send(clip(), filename="a.mp4"))
    async with Client(servers.targets[0]) as client:
        for url in (job.media.blob.url, servers.blobs.url(f"media/{job.media.id}/media.json")):
            assert await client.media(url) == job.media
            assert (await client.ingest_video(url)).latest.cached


REFUSED = [
    ("s3://elsewhere/a.mp4", "PERMISSION_DENIED", "BUCKET_FORBIDDEN"),
    ("gs://elsewhere/a.mp4", "PERMISSION_DENIED", "BUCKET_FORBIDDEN"),
    ("s3://{bucket}/uploads/x/0", "PERMISSION_DENIED", "BUCKET_FORBIDDEN"),
    ("s3://{bucket}/journal/x", "PERMISSION_DENIED", "BUCKET_FORBIDDEN"),
    ("s3://{bucket}/subscriptions/x", "PERMISSION_DENIED", "BUCKET_FORBIDDEN"),
    ("s3://{bucket}/webhooks/x", "PERMISSION_DENIED", "BUCKET_FORBIDDEN"),
    ("s3://{bucket}/alias/x", "PERMISSION_DENIED", "BUCKET_FORBIDDEN"),
    ("s3://{bucket}/media/" + "a" * 52 + "/x.mp4", "NOT_FOUND", "MEDIA_NOT_FOUND"),
    ("s3://{bucket}/media/mine.mp4", "NOT_FOUND", "MEDIA_NOT_FOUND"),
    ("s3://{bucket}/nothing.mp4", "NOT_FOUND", "MEDIA_DOES_NOT_EXIST"),
    ("s3://{bucket}/a/../media/x", "INVALID_ARGUMENT", "INVALID_REQUEST"),
    ("s3://{bucket}//a.mp4", "INVALID_ARGUMENT", "INVALID_REQUEST"),
    ("s3://{bucket}", "INVALID_ARGUMENT", "INVALID_REQUEST"),
    ("s3:///a.mp4", "INVALID_ARGUMENT", "INVALID_REQUEST"),
    ("upload:unheard-of", "NOT_FOUND", "MEDIA_NOT_FOUND"),
]


async def test_what_cannot_be_adopted_is_refused_at_once(servers: UploadServers) -> None:
    async with Client(servers.targets[0]) as client:
        for form, code, reason in REFUSED:
            url = form.format(bucket=servers.blobs.bucket)
            with pytest.raises(IngotError) as caught:
                await client.ingest_video(url)
            assert (caught.value.code, caught.value.reason) == (grpc.StatusCode[code], reason), url
        assert not [job async for job in client.jobs()]


async def test_an_object_that_is_not_media_is_not_adopted(servers: UploadServers) -> None:
    await servers.blobs.put("notes.txt", b"not a video" * 100, content_type="video/mp4")
    async with Client(servers.targets[0]) as client:
        job = await client.ingest_video(servers.blobs.url("notes.txt"))
        ended = await servers.ended(job.latest)
    assert ended.state == JobState.JOB_STATE_FAILED
    assert not await servers.blobs.list_objects("media/")
