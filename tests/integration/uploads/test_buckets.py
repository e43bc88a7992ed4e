"""Further buckets: their objects are adopted and served where they lie, and never touched.

One is on the installation's own server, two are on another SeaweedFS, which stands in for another
provider and for Google: what Ingot asks of either is plain S3.
"""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import grpc
import pytest
from minio import Minio

from ingot import Client, IngotError
from ingot.v1.job_pb2 import JobState
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from tests.integration.uploads.upload_servers import UploadServers, clip, running_servers
from tests.servers import seaweedfs


class OtherBucket:
    """A bucket that another program fills."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str) -> None:
        self.name = f"other-{secrets.token_hex(6)}"
        self._client = Minio(endpoint, access_key, secret_key, secure=False, region="us-east-1")
        self._client.make_bucket(self.name)

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(self.name, key, io.BytesIO(content), len(content))

    def get(self, key: str) -> bytes:
        with self._client.get_object(self.name, key) as response:
            return response.read()

    def keys(self) -> list[str]:
        found = self._client.list_objects(self.name, recursive=True)
        return [str(item.object_name) for item in found]

    def remove(self) -> None:
        for key in self.keys():
            self._client.remove_object(self.name, key)
        self._client.remove_bucket(self.name)


async def keys_of_media(servers: UploadServers) -> list[str]:
    """The keys of Ingot's own bucket, except the copy of the index and the journal of all media."""
    found = await servers.blobs.list_objects("")
    return [each.key for each in found if not each.key.startswith(("index/", "journal/"))]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Another S3 server with keys of its own."""
    with seaweedfs(tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture
def buckets(settings: Settings, provider: dict[str, str]) -> Iterator[dict[str, OtherBucket]]:
    """The buckets as the tests call them."""
    own = settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key
    other = provider["s3_endpoint"], provider["s3_access_key"], provider["s3_secret_key"]
    found = {
        "same server": OtherBucket(*own),
        "provider": OtherBucket(*other),
        "google": OtherBucket(*other),
    }
    yield found
    for bucket in found.values():
        bucket.remove()


@pytest.fixture
async def servers(
    settings: Settings, provider: dict[str, str], buckets: dict[str, OtherBucket], tmp_path: Path
) -> AsyncIterator[UploadServers]:
    keys = (
        f'endpoint = "{provider["s3_endpoint"]}"\naccess_key = "{provider["s3_access_key"]}"\n'
        f'secret_key = "{provider["s3_secret_key"]}"\nsecure = false\n'
    )
    path = tmp_path / "buckets.toml"
    path.write_text(
        f"[s3.{buckets['same server'].name}]\n"
        f"[s3.{buckets['provider'].name}]\n{keys}"
        f"[gs.{buckets['google'].name}]\n{keys}"
    )
    async with running_servers(
        settings.replace(buckets_file=str(path), http_address="")
    ) as servers:
        yield servers


@pytest.mark.parametrize(
    ("scheme", "bucket"), [("s3", "same server"), ("s3", "provider"), ("gs", "google")]
)
async def test_an_object_of_a_further_bucket_is_adopted_where_it_lies(
    servers: UploadServers,
    buckets: dict[str, OtherBucket],
    tmp_path: Path,
    scheme: str,
    bucket: str,
) -> None:
    content = clip()
    # A key that would be a media item's file if it were in the installation's bucket.
    key = f"media/{'a' * 52}/my clip.mp4"
    buckets[bucket].put(key, content)
    url = f"{scheme}://{buckets[bucket].name}/{key}"
    async with Client(servers.targets[0]) as client:
        job = await client.ingest_video(url)
        assert (await servers.ended(job.latest)).state == JobState.JOB_STATE_SUCCEEDED
        stored = await job
        assert stored.blob.url == stored.url == url
        assert [video.url for video in stored.video] == [url]
        assert [audio.url for audio in stored.audio] == [url]
        assert (stored.title, stored.source.key) == ("my clip", f"internal:{url}")
        assert stored.blob.sha256 == hashlib.sha256(content).hexdigest()
        assert await client.media(f" {url.replace(scheme, scheme.upper(), 1)}") == stored
        assert (await client.ingest_video(url)).latest.cached

        await client.download(url, tmp_path / "copy.mp4")
        assert (tmp_path / "copy.mp4").read_bytes() == content
        link = await client.download_url(stored.id)
        async with aiohttp.ClientSession() as session, session.get(link.url) as answer:
            assert await answer.read() == content

        # Only the manifest is Ingot's, and it lies in Ingot's bucket.
        assert await keys_of_media(servers) == [f"media/{stored.id}/media.json"]
        buckets[bucket].put(key, clip(seed=2))
        again = await client.ingest_video(url)
        await servers.ended(again.latest)
        assert (await again).blob.sha256 != stored.blob.sha256
        await client.delete_media(stored.id)
    assert buckets[bucket].keys() == [key]
    assert buckets[bucket].get(key) == clip(seed=2)
    # Its tombstone is left.
    assert await keys_of_media(servers) == [f"media/{stored.id}/media.json"]


async def test_only_buckets_that_are_configured_are_read(
    servers: UploadServers, buckets: dict[str, OtherBucket]
) -> None:
    names = {name: bucket.name for name, bucket in buckets.items()}
    async with Client(servers.targets[0]) as client:
        for url in (
            "s3://elsewhere/a.mp4",
            f"gs://{names['provider']}/a.mp4",
            f"gs://{names['same server']}/a.mp4",
            f"s3://{names['google']}/a.mp4",
        ):
            calls: list[Callable[[str], Awaitable[object]]] = [
                client.ingest_video,
                client.media,
                client.validate,
            ]
            for call in calls:
                with pytest.raises(IngotError) as caught:
                    await call(url)
                assert caught.value.code == grpc.StatusCode.PERMISSION_DENIED, url
                assert caught.value.reason == "BUCKET_FORBIDDEN"
        absent = f"gs://{names['google']}/nothing.mp4"
        with pytest.raises(IngotError) as caught:
            await client.ingest_video(absent)
        assert caught.value.reason == "MEDIA_DOES_NOT_EXIST"
        # No request goes out for either.
        assert (await client.validate(absent)).url == absent
        with pytest.raises(IngotError) as caught:
            await client.media(absent)
        assert caught.value.reason == "MEDIA_NOT_FOUND"


async def test_a_media_whose_bucket_is_not_configured_any_more_says_so(
    servers: UploadServers, buckets: dict[str, OtherBucket], tmp_path: Path
) -> None:
    buckets["provider"].put("clip.mp4", clip())
    url = f"s3://{buckets['provider'].name}/clip.mp4"
    async with Client(servers.targets[0]) as client:
        job = await client.ingest_video(url)
        await servers.ended(job.latest)
        stored = await job
    async with (
        running_servers(servers.settings.replace(buckets_file="")) as later,
        Client(later.targets[0]) as client,
    ):
        assert await client.media(stored.id) == stored
        with pytest.raises(IngotError) as caught:
            await client.download(stored.id, tmp_path / "copy.mp4")
        assert caught.value.reason == "BUCKET_FORBIDDEN"
        await client.delete_media(stored.id)
    assert buckets["provider"].keys() == ["clip.mp4"]


async def test_a_refusal_names_the_bucket_and_where_it_is_configured(
    settings: Settings, provider: dict[str, str], buckets: dict[str, OtherBucket], tmp_path: Path
) -> None:
    path = tmp_path / "buckets.toml"
    name = buckets["google"].name
    path.write_text(
        f'[gs.{name}]\nendpoint = "{provider["s3_endpoint"]}"\nsecure = false\n'
        'access_key = "unheard-of"\nsecret_key = "hush"\n'
    )
    blobs = Blobs(settings.replace(buckets_file=str(path)))
    found = blobs.find("gs", name, "clip.mp4")
    assert found is not None
    try:
        with pytest.raises(Exception, match=rf"gs://{name} in INGOT_BUCKETS_FILE") as caught:
            async for _ in found[0].read_object("clip.mp4", offset=0, limit=0):
                pass
    finally:
        await blobs.close()
    assert "hush" not in str(caught.value)
