"""Keeps what this version stores below tests/kept/VERSION, for later versions to read.

    python -m tests.keep_release VERSION

A whole `ingot-server up` does real work: media items, one that was deleted, a conversion, a list of
states of jobs, an upload that is not finished, and a webhook that nobody accepts. Then its
bucket and its Redis are written down, with what its API said about all of that. It takes a minute
or two, because a webhook is written to the bucket only after one.

    bucket/<key>     the objects, without the files of media items and parts of uploads
    redis.json       key -> {type, value}; bytes in base64
    media.json       a list of what GetMedia has returned
    jobs.json        a list of what GetJob has returned
    webhooks.json    a list of what ListWebhookDeliveries has returned
    upload.json      the id of the upload, and what QueryUpload has returned
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from redis import Redis

from ingot.v1 import (
    ingest_service_pb2,
    job_pb2,
    job_service_pb2,
    media_service_pb2,
    recipe_pb2,
    webhook_service_pb2,
)
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot.v1.webhook_service_pb2_grpc import WebhookServiceStub
from ingot_server.library.blobs import Blobs
from tests.installation import Installation, installation
from tests.media import media
from tests.origin import Origin, Page, running_origin

KEPT = Path(__file__).parent / "kept"
FILES = ("media.json", "jobs.json", "webhooks.json", "upload.json")
_SECRETS = "whsec_" + base64.b64encode(b"kept in the repository, not secret").decode()
_ENDED = (
    job_pb2.JOB_STATE_SUCCEEDED,
    job_pb2.JOB_STATE_FAILED,
    job_pb2.JOB_STATE_CANCELLED,
)


class Caller:
    """Calls the API of one installation with the stubs alone."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.ingest: Any = IngestServiceStub(channel)
        self.jobs: Any = JobServiceStub(channel)
        self.media: Any = MediaServiceStub(channel)
        self.webhooks: Any = WebhookServiceStub(channel)

    async def begin(self, url: str, **fields: Any) -> str:
        """Return the id of the job of an Ingest."""
        request = ingest_service_pb2.IngestRequest(url=url, **fields)
        return str((await self.ingest.Ingest(request)).job.id)

    async def job(self, job_id: str) -> job_pb2.Job:
        response = await self.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id))
        return cast("job_pb2.Job", response.job)

    async def end(self, job_id: str) -> job_pb2.Job:
        """Return a job when it has ended."""
        async for watched in self.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id)):
            if watched.job.state in _ENDED:
                break
        return await self.job(job_id)

    async def stored(self) -> list[Message]:
        """Return all media items, latest first."""
        return list((await self.media.ListMedia(media_service_pb2.ListMediaRequest())).media)


async def keep(ingot: Installation, origin: Origin, folder: Path) -> None:
    """Let `ingot` work, and write down what it has stored below `folder`."""
    clip = Page(
        media("plain.mp4").read_bytes(), etag='"one"', last_modified="Sat, 21 Nov 2026 09:00:00 GMT"
    )
    news = origin.serve("/news.mp4", clip)
    gone = origin.serve("/gone.mp4", Page(media("faststart.mp4").read_bytes()))
    slow = origin.serve("/slow.mp4", Page(clip.content, gate=asyncio.Event(), held_after=1000))
    async with grpc.aio.insecure_channel(ingot.grpc_address) as channel:
        caller = Caller(channel)
        workflow = await caller.begin(
            news,
            labels={"show": "news"},
            recipes=[json_format.ParseDict({"mp3": {"bitrateKbps": 128}}, recipe_pb2.Recipe())],
            request_id="6f1c1f2e-5a53-4f5f-8d4b-9d8a7a0c9b11",
            webhook_url=origin.url("/refuses-webhooks"),
        )
        parent = await caller.end(workflow)
        deleted = await caller.end(await caller.begin(gone))
        await caller.media.DeleteMedia(
            media_service_pb2.DeleteMediaRequest(media_id=deleted.media.id)
        )
        failed = await caller.end(await caller.begin(origin.url("/missing.mp4")))
        running = await caller.begin(
            slow, labels={"show": "late"}, priority=job_pb2.JOB_PRIORITY_HIGH
        )
        await origin.asked_for("/slow.mp4")
        upload = await caller.ingest.CreateUploadUrl(
            ingest_service_pb2.CreateUploadUrlRequest(
                filename="talk.mp4", content_type="video/mp4", size_bytes=len(clip.content)
            )
        )
        queried = await caller.ingest.QueryUpload(
            ingest_service_pb2.QueryUploadRequest(upload_id=upload.upload_id)
        )
        while not ingot.bucket_keys("webhooks/"):  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(1)
        job_ids = [workflow, *parent.child_job_ids, deleted.id, failed.id, running]
        write(folder / "jobs.json", [await caller.job(job_id) for job_id in job_ids])
        write(folder / "media.json", await caller.stored())
        deliveries = await caller.webhooks.ListWebhookDeliveries(
            webhook_service_pb2.ListWebhookDeliveriesRequest()
        )
        write(folder / "webhooks.json", deliveries.deliveries)
        kept = {"id": upload.upload_id, "query": json_format.MessageToDict(queried)}
        (folder / "upload.json").write_text(json.dumps(kept, indent=1) + "\n")
        keep_redis(ingot, folder / "redis.json")
        await keep_bucket(ingot, folder / "bucket")


def write(file: Path, messages: Iterable[Message]) -> None:
    """Write messages as a list of protobuf JSON."""
    found = [json_format.MessageToDict(message) for message in messages]
    file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


def keep_redis(ingot: Installation, file: Path) -> None:
    """Write down all keys, without what Celery keeps of its queues."""
    kept: dict[str, Any] = {}
    with Redis.from_url(ingot.redis_url) as redis:
        for key in sorted(cast("list[bytes]", redis.keys())):
            if not key.startswith(b"ingot:queue:"):
                kept[key.decode()] = _value(redis, key)
    file.write_text(json.dumps(kept, indent=1) + "\n")


def _value(redis: Redis, key: bytes) -> dict[str, Any]:
    kind = cast("bytes", redis.type(key)).decode()
    value: Any
    match kind:
        case "string":
            value = _text(redis.get(key))
        case "hash":
            value = {_text(name): _text(each) for name, each in redis.hgetall(key).items()}
        case "set":
            value = sorted(map(_text, redis.smembers(key)))
        case "list":
            value = [_text(each) for each in redis.lrange(key, 0, -1)]
        case "zset":
            scored: Any = redis.zrange(key, 0, -1, withscores=True)
            value = {_text(member): score for member, score in scored}
        case _:
            raise ValueError(f"{key!r} is a {kind}")
    return {"type": kind, "value": value}


def _text(content: Any) -> str:
    return base64.b64encode(content).decode()


async def keep_bucket(ingot: Installation, folder: Path) -> None:
    """Write down all objects but the files of media items and parts of uploads."""
    blobs = Blobs(ingot.s3_settings())
    try:
        for key in ingot.bucket_keys(""):
            if key.startswith(("media/", "uploads/")) and not key.endswith(".json"):
                continue
            found = await blobs.get(key)
            if found is not None:
                file = folder / key
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(found[0])
    finally:
        await blobs.close()


async def main(version: str) -> None:
    """Keep what this code stores as that of `version`."""
    folder = KEPT / version
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="ingot-") as directory:
        async with running_origin() as origin:
            settings = {
                "webhook_secrets": _SECRETS,
                "egress_allow": origin.url("").removeprefix("http://").strip("/"),
                "lease": "1m",
                "stall_timeout": "10m",
            }
            with installation(Path(directory) / "data", **settings) as ingot:
                await keep(ingot, origin, folder)
    print(f"{folder} has what {version} stores.")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
