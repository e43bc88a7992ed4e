"""INGOT_S3_PREFIX: installations share a bucket, and none reaches what belongs to another."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial

import grpc
import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from ingot_server.config import Settings
from ingot_server.garbage_collection import collect_garbage
from ingot_server.library.blobs import Blobs
from ingot_server.library.bucket_probe import FOLDER as PROBES
from tests.harness import running_harness
from tests.origin import Origin, Page
from tests.waiting import TIMEOUT_SECONDS


async def test_garbage_is_collected_under_the_own_prefix_only(settings: Settings) -> None:
    prefixes = ("", "team", "team-2")
    installations = [
        settings.replace(
            s3_prefix=prefix,
            redis_prefix=f"ingot-{prefix}:",
            gc_grace=timedelta(0),
            upload_ttl=timedelta(0),
        )
        for prefix in prefixes
    ]
    buckets = [Blobs(each) for each in installations]
    try:
        for blobs in buckets:
            await blobs.prepare()
            await blobs.put(f"media/{'a' * 52}/lost-1.mp4", b"x", content_type="video/mp4")
            await blobs.put(f"{PROBES}left", b"x", content_type="text/plain")
            create = blobs._s3.calls.client._create_multipart_upload
            name = blobs._s3.object_name(f"media/{'b' * 52}/lost-2.mp4")
            await blobs._s3.calls.run(partial(create, blobs.bucket, name, {}))
        whole, team, other = buckets

        async def kept(blobs: Blobs) -> tuple[int, int]:
            folders = [await blobs.list_objects(folder) for folder in ("media/", PROBES)]
            return sum(map(len, folders)), len(await blobs.unfinished_uploads("media/"))

        assert await team.list_folders("media/", after="", limit=9) == ["a" * 52]
        for index, collecting in ((1, team), (0, whole)):
            await collect_garbage(installations[index], delete=True, say=lambda _: None)
            assert await kept(collecting) == (0, 0)
            assert await kept(other) == (2, 1)
        await other.remove_tree("")
        await other.abort_uploads("")
    finally:
        for blobs in buckets:
            await blobs.close()


@pytest.mark.any_stores
async def test_an_installation_with_a_prefix_keeps_everything_under_it(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    whole = Blobs(settings)
    async with (
        asyncio.timeout(TIMEOUT_SECONDS),
        running_harness(settings.replace(s3_prefix="teams/one", attempts=1)) as harness,
    ):
        try:
            job = await harness.ingest(origin.serve("/clip.mp4", Page(clip)))
            stored = job.media
            assert job.state == JOB_STATE_SUCCEEDED, job.error
            # What a caller sees is what a client of S3 finds.
            assert stored.blob.url.startswith(f"{whole.url('teams/one/media/')}{stored.id}/")
            assert (await whole.stat(whole.key(stored.blob.url))) is not None
            assert (await harness.get(url=stored.blob.url)).id == stored.id
            assert await harness.download(media_id=stored.id) == clip

            await harness.blobs.put("drop/clip.mp4", clip, content_type="video/mp4")
            adopted = await harness.ingest(harness.blobs.url("drop/clip.mp4"))
            assert adopted.state == JOB_STATE_SUCCEEDED, adopted.error
            assert adopted.media.blob.url == whole.url("teams/one/drop/clip.mp4")

            await whole.put("drop/clip.mp4", clip, content_type="video/mp4")
            for name in ("drop/clip.mp4", "teams/one/journal/x"):
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await harness.ask(whole.url(name))
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

            await harness.delete(stored.id)
            assert await whole.stat(whole.key(stored.blob.url)) is None
            keys = [each.key for each in await whole.list_objects("")]
            assert [key for key in keys if not key.startswith("teams/one/")] == ["drop/clip.mp4"]
        finally:
            await whole.close()
