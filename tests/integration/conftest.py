"""Every integration test runs against each pair of stores that can start here."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from minio import Minio
from redis import Redis as BlockingRedis

from ingot_server.config import Settings
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.redis import Redis, connect
from ingot_server.setting_values import Secret
from tests.broadcast import Broadcast, broadcasting, encoded
from tests.harness import Harness, running_harness
from tests.prepared_programs import prepared_programs
from tests.servers import STACKS, ServerMissing, Stores, stores

_EMBEDDED, *_OTHERS = STACKS


@pytest.fixture(
    scope="session",
    params=[_EMBEDDED, *(pytest.param(name, marks=pytest.mark.other_stores) for name in _OTHERS)],
)
def stack(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """A running Redis and S3, shared by all tests."""
    with contextlib.ExitStack() as running:
        try:
            found = running.enter_context(stores(request.param))
        except ServerMissing as missing:
            if os.environ.get("REQUIRE_ALL_SERVERS"):
                raise
            pytest.skip(str(missing))
        yield found


@pytest.fixture(scope="session", autouse=True)
def prepared() -> Iterator[None]:
    """The programs of workers are ready to be forked."""
    with prepared_programs():
        yield


@pytest.fixture
def settings(stack: Stores, tmp_path: Path) -> Iterator[Settings]:
    """Settings with an empty Redis, and a bucket name and a scratch directory of their own."""
    bucket = f"ingot-{secrets.token_hex(6)}"
    with BlockingRedis.from_url(stack.redis_url) as connection:
        connection.flushall()
    yield Settings(
        redis_url=stack.redis_url,
        s3_endpoint=stack.s3_endpoint,
        s3_access_key=stack.s3_access_key,
        s3_secret_key=Secret(stack.s3_secret_key),
        s3_bucket=bucket,
        egress_allow_loopback=True,
        # Most workers of tests extract nothing, and a ready process would cost each a second.
        extractor_prewarm=False,
        grpc_address="127.0.0.1:0",
        http_address="127.0.0.1:0",
        # What means something in a URL, in a template or for a shell means nothing in a path.
        data_dir=tmp_path / "data #?%2F",
        scratch_dir=tmp_path / "scratch #?%2F",
    )
    _remove_bucket(stack, bucket)


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with connect(settings) as connection:
        yield connection


@pytest.fixture
async def blobs(settings: Settings) -> AsyncIterator[Blobs]:
    """The test's bucket, which exists."""
    opened = Blobs(settings)
    await opened.prepare()
    yield opened
    await opened.close()


@pytest.fixture
def records(redis: Redis, settings: Settings) -> Records:
    return Records(redis, settings)


@pytest.fixture
async def feed(redis: Redis, records: Records, settings: Settings) -> AsyncIterator[Feed]:
    """A feed that has begun."""
    opened = Feed(redis, records, settings)
    await opened.start()
    yield opened
    await opened.close()


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[Harness]:
    """A whole Ingot that tries a job once."""
    async with running_harness(settings.replace(attempts=1)) as running:
        yield running


@pytest.fixture(scope="session")
def segments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a live stream is cut into, see `broadcast.encoded`."""
    return encoded(tmp_path_factory.mktemp("live"))[0]


@pytest.fixture
async def broadcast(segments: dict[str, bytes]) -> AsyncIterator[Broadcast]:
    async with broadcasting(segments, ("both",)) as running:
        yield running


def _remove_bucket(stack: Stores, bucket: str) -> None:
    # SeaweedFS gives each bucket volumes of its own and has room for a few dozen of them.
    client = Minio(
        stack.s3_endpoint,
        stack.s3_access_key,
        stack.s3_secret_key,
        secure=False,
        region="us-east-1",
    )
    if client.bucket_exists(bucket):
        for item in client.list_objects(bucket, recursive=True):
            client.remove_object(bucket, str(item.object_name))
        client.remove_bucket(bucket)
