"""What is there when a run is over: in the records, in the bucket, on the machine."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import grpc
from google.protobuf import json_format
from minio import Minio

from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server import garbage_collection
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.redis import Redis, connect
from tests.chaos.callers import Callers
from tests.chaos.cluster import Cluster
from tests.chaos.gateway import Commit
from tests.chaos.history import History
from tests.chaos.sources import Sources
from tests.installation import files_below

_IDLE_SECONDS = 60.0
_KEPT_FILES = {"sweep.lock"}


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """A media item that the servers have, and what a reader gets."""

    media: Media
    how: str
    """Which call has returned it."""
    sha256: str
    size_bytes: int
    error: str
    """Why it could not be read; empty if it could."""


@dataclass
class Evidence:
    """Everything that the claims are checked against."""

    history: History
    sources: Sources
    commits: Sequence[Commit]
    lease_seconds: float
    redis_losses: Sequence[float] = ()
    """When its records went back, or away, by time.time()."""
    disturbances: Sequence[tuple[float, float]] = ()
    """When something kept ends from the bucket, or may have: begin and end by time.time()."""
    clocks_jumped: bool = False
    """Whether the times in records mean anything."""
    records: list[dict[str, Job | None]] = field(default_factory=list)
    """By server: what GetJob returns for each accepted job and its children."""
    stored: list[StoredMedia] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    """What the records say is held although no job is left."""
    manifests: dict[str, Manifest] = field(default_factory=dict)
    """Of the bucket, by media id; without tombstones."""
    keys: list[str] = field(default_factory=list)
    """Of the bucket, after gc."""
    multipart_uploads: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    ended_processes: list[str] = field(default_factory=list)
    """Those that ended although nothing had killed them."""
    scratch: list[str] = field(default_factory=list)


async def examine_service(evidence: Evidence, callers: Callers, cluster: Cluster) -> None:
    """Ask the servers for all that there is. They run, and nothing disturbs them any more."""
    for server in callers.servers:
        found: dict[str, Job | None] = {}
        wanted = list(evidence.history.jobs)
        while wanted:
            job_id = wanted.pop()
            try:
                found[job_id] = job = await callers.job(server, job_id)
            except grpc.aio.AioRpcError:
                found[job_id] = None
            else:
                wanted.extend(child for child in job.child_job_ids if child not in found)
        evidence.records.append(found)
    evidence.held = await _held(cluster)
    for media in await callers.all_media():
        evidence.stored.append(await _read(callers, media, "ListMedia"))
    # A list may lack what was committed while Redis was away, until a server reads it.
    for media_id in {commit.media_id for commit in evidence.commits}:
        if all(each.media.id != media_id for each in evidence.stored):
            stored = await callers.media(media_id)
            if stored is not None:
                evidence.stored.append(await _read(callers, stored, "GetMedia"))
    await _ask_again(evidence, callers)


async def _ask_again(evidence: Evidence, callers: Callers) -> None:
    """Ingest what is stored: it must be a hit, and whole."""
    for url in {each.media.url for each in evidence.stored if not each.media.recipe.ListFields()}:
        if url not in evidence.sources.served:
            continue
        answer = await callers.call("ingests.Ingest", IngestRequest(url=url))
        if answer.job.cached:
            evidence.stored.append(await _read(callers, answer.job.media, "a cached Ingest"))
        else:
            accepted = evidence.history.accept("ingest", f"Ingest {url}", answer.job)
            if accepted is not None:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await callers.watch(accepted)


async def _read(callers: Callers, media: Media, how: str) -> StoredMedia:
    try:
        content = await callers.download(media.id)
    except grpc.aio.AioRpcError as error:
        return StoredMedia(media, how, "", 0, f"{error.code().name}: {error.details()}")
    return StoredMedia(media, how, hashlib.sha256(content).hexdigest(), len(content), "")


async def examine_machine(evidence: Evidence, cluster: Cluster) -> None:
    """Look for what the processes left. They have been stopped."""
    evidence.processes = cluster.left_processes()
    evidence.ended_processes = cluster.ended_processes()
    scratch = cluster.settings.scratch_dir
    left = (str(path.relative_to(scratch)) for path in files_below(scratch))
    evidence.scratch = [name for name in left if name not in _KEPT_FILES]


async def examine_bucket(evidence: Evidence, cluster: Cluster) -> None:
    """Collect the garbage without any grace, and list what is left."""
    settings = cluster.direct_settings.replace(gc_grace=timedelta(0), upload_ttl=timedelta(0))
    bucket = settings.s3_bucket
    s3 = Minio(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        secure=False,
        region=settings.s3_region,
    )
    await garbage_collection.collect_garbage(settings, delete=True, say=lambda _line: None)

    def read() -> None:
        for found in s3.list_objects(bucket, recursive=True):
            key = str(found.object_name)
            evidence.keys.append(key)
            if key.endswith("/media.json"):
                response = s3.get_object(bucket, key)
                manifest = json_format.Parse(response.read(), Manifest())
                response.close()
                evidence.manifests[key.split("/")[1]] = manifest
        uploads = s3._list_multipart_uploads(bucket).uploads
        evidence.multipart_uploads = [str(upload.object_name) for upload in uploads]

    await asyncio.to_thread(read)


async def _held(cluster: Cluster) -> list[str]:
    """What is held in Redis; waits a while for the sweep to give it back."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _IDLE_SECONDS
    async with connect(cluster.direct_settings) as redis:
        while True:
            held = await _held_now(redis)
            if not held or loop.time() > deadline:
                return held
            await asyncio.sleep(0.5)


async def _held_now(redis: Redis) -> list[str]:
    """What stands for work: leases, slots, places, deadlines, flights, permits, unwritten ends."""
    held = []
    names = [name async for name in redis.scan_iter(match=redis.key("*"), count=1000)]
    for name in names:
        key = _text(name).removeprefix(redis.key(""))
        kind = key.partition(":")[0]
        if kind == "job" and await redis.hget(name, "token"):
            held.append(f"the lease of {key}")
        elif kind in {"held", "load"}:
            pairs = await redis.hgetall(name)
            held += [f"{key}: {_text(item)} {_text(value)}" for item, value in pairs.items()]
        elif kind in {"ready", "deadlines"}:
            held += [f"{key}: {_text(member)}" for member in await redis.zrange(name, 0, -1)]
        elif kind == "journal-ended":
            members = await redis.zrange(name, 0, -1)
            held += [f"the unwritten end of {_text(member)}" for member in members]
        elif kind == "active":
            held.append(f"{key}: {_text(await redis.get(name))}")
        elif kind == "source-permits":
            seconds, _ = await redis.time()
            permits = await redis.zrangebyscore(name, seconds * 1000, "+inf")
            held += [f"{key}: {_text(member)}" for member in permits]
    return held


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
