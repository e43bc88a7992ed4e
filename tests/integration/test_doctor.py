"""`ingot-server doctor` on real servers, and what stops a start because it endangers promises."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from minio import Minio
from minio.versioningconfig import VersioningConfig
from redis.asyncio import Redis

from ingot_server import app
from ingot_server.config import Settings
from ingot_server.doctor.examination import examine, exit_code, json_lines, lines
from ingot_server.errors import Failure
from ingot_server.findings import Finding, Level
from ingot_server.library.blobs import Blobs
from ingot_server.local.local_servers import SeaweedFS, redis_program, valkey_executable
from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program
from ingot_server.setting_values import ByteSize, Secret
from ingot_server.worker import Worker
from tests import tls
from tests.bucket_proxy import bucket_behind_proxy
from tests.servers import process


def named(findings: list[Finding], check: str) -> Finding:
    """Return the one finding of a check."""
    (found,) = [each for each in findings if each.check == check]
    return found


def problems(findings: list[Finding]) -> list[str]:
    return [each.check for each in findings if each.level is Level.PROBLEM]


async def refused_start(settings: Settings) -> list[str]:
    """Start an API server and a worker, and return why each does not start."""
    messages = []
    with pytest.raises(Failure) as refused:
        async with app.running(settings):
            pass
    messages.append(refused.value.message)
    worker = Worker(settings)
    with pytest.raises(Failure) as refused:
        await worker.start()
    messages.append(refused.value.message)
    await worker.stop()
    return messages


async def test_a_healthy_installation_has_no_problem(settings: Settings, blobs: Blobs) -> None:
    findings = await examine(settings)

    assert problems(findings) == []
    assert exit_code(findings) == 0
    assert {each.check for each in findings} >= {
        *("settings", "Redis", "Redis mode", "eviction", "persistence", "Redis clock"),
        *("S3", "S3 keys", "conditions", "versioning", "S3 clock"),
        *("ffmpeg", "yt-dlp", "deno", "scratch", "confinement", "egress guard", "loopback"),
    }
    assert all(each.remedy for each in findings if each.level is Level.WARNING)
    # One line for each check.
    assert [line.split()[0] for line in lines(findings)] == [each.level for each in findings]
    assert [json.loads(line)["check"] for line in json_lines(findings)] == [
        each.check for each in findings
    ]
    assert await blobs.list_objects("probe/") == []


@asynccontextmanager
async def evicting(redis: Redis, policy: str, limit: str) -> AsyncIterator[None]:
    await redis.config_set("maxmemory-policy", policy)
    await redis.config_set("maxmemory", limit)
    try:
        yield
    finally:
        await redis.config_set("maxmemory", 0)
        await redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_evicts_stops_the_start(
    settings: Settings, redis: Redis, policy: str
) -> None:
    async with evicting(redis, policy, "100mb"):
        for message in await refused_start(settings):
            assert policy in message
            assert "Set maxmemory-policy to noeviction" in message
        assert problems(await examine(settings)) == ["eviction"]
    async with evicting(redis, policy, "0"), app.running(settings):
        assert named(await examine(settings), "eviction").level is Level.WARNING


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a node of a cluster."""
    directory = tmp_path_factory.mktemp("cluster")
    socket = directory / "redis.sock"
    program = redis_program(valkey_executable(), directory, socket)
    with Ports() as ports:
        port = ports.reserve("127.0.0.1")
        # The bus of a cluster has the port, plus 10000 unless it is told.
        bus = ports.reserve("127.0.0.1")
        clustered = Program(
            name="cluster",
            arguments=(
                *program.arguments,
                *("--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"),
                *("--cluster-port", str(bus)),
            ),
            ready=program.ready,
        )
        with process(clustered):
            yield f"unix://{socket}"


@pytest.mark.any_stores
async def test_a_node_of_a_cluster_stops_the_start(settings: Settings, cluster: str) -> None:
    settings = settings.replace(redis_url=cluster)
    for message in await refused_start(settings):
        assert "Redis Cluster, which Ingot does not support" in message
    assert "Redis mode" in problems(await examine(settings))


@pytest.mark.any_stores
async def test_a_redis_without_the_replicas_that_it_needs_is_reported(
    settings: Settings, redis: Redis, blobs: Blobs
) -> None:
    await redis.config_set("min-replicas-to-write", 1)
    try:
        findings = await examine(settings)
    finally:
        await redis.config_set("min-replicas-to-write", 0)
    assert problems(findings) == ["Redis writes"]
    assert "min-replicas-to-write" in named(findings, "Redis writes").remedy


@pytest.mark.any_stores
async def test_a_redis_that_keeps_nothing_is_reported(
    settings: Settings, redis: Redis, blobs: Blobs
) -> None:
    assert named(await examine(settings), "persistence").level is Level.OK
    await redis.config_set("appendonly", "no")
    try:
        found = named(await examine(settings), "persistence")
    finally:
        await redis.config_set("appendonly", "yes")
    assert found.level is Level.WARNING
    assert found.remedy == "Set appendonly to yes."


async def test_a_versioned_bucket_keeps_the_promises_and_is_reported(
    settings: Settings, blobs: Blobs
) -> None:
    client = minio_client(settings)
    client.set_bucket_versioning(settings.s3_bucket, VersioningConfig("Enabled"))
    try:
        # A commit after a deletion: the marker of the deletion does not count as an object.
        key = "media/a/media.json"
        assert await blobs.put(key, b"1", content_type="text/plain", if_none_match=True)
        await blobs.remove(key)
        assert await blobs.put(key, b"2", content_type="text/plain", if_none_match=True)

        findings = await examine(settings)
        async with app.running(settings):
            pass
    finally:
        remove_versions(client, settings.s3_bucket)

    found = named(findings, "versioning")
    assert found.level is Level.WARNING
    assert "lifecycle rule" in found.remedy
    assert problems(findings) == []


def minio_client(settings: Settings) -> Minio:
    return Minio(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        secure=False,
        region=settings.s3_region,
    )


def remove_versions(client: Minio, bucket: str) -> None:
    client.set_bucket_versioning(bucket, VersioningConfig("Suspended"))
    for each in list(client.list_objects(bucket, recursive=True, include_version=True)):
        client.remove_object(bucket, str(each.object_name), version_id=each.version_id)


@pytest.fixture(scope="module")
def seaweedfs_with_reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """SeaweedFS with a second identity, `reader`, which may read and list only."""
    with Ports() as ports:
        server = SeaweedFS.open(tmp_path_factory.mktemp("seaweedfs"), ports)
        program = server.program()
        path = server.directory / "identities.json"
        configuration = json.loads(path.read_text())
        keys = {"accessKey": "reader", "secretKey": "reader-secret"}
        configuration["identities"].append(
            {"name": "reader", "credentials": [keys], "actions": ["Read", "List"]}
        )
        path.write_text(json.dumps(configuration))
        try:
            with process(program):
                yield server
        finally:
            server.remove_sockets()


@pytest.mark.any_stores
async def test_read_only_keys_stop_the_start(
    settings: Settings, seaweedfs_with_reader: SeaweedFS
) -> None:
    server = seaweedfs_with_reader
    owner = settings.replace(
        s3_endpoint=server.endpoint,
        s3_access_key=server.access_key,
        s3_secret_key=server.secret_key,
    )
    blobs = Blobs(owner)
    await blobs.prepare()
    await blobs.close()
    reader = owner.replace(s3_access_key="reader", s3_secret_key=Secret("reader-secret"))

    for message in await refused_start(reader):
        assert "may not write to the bucket" in message
        assert "s3:PutObject" in message
    assert problems(await examine(reader)) == ["S3 keys"]


@pytest.mark.any_stores
@pytest.mark.parametrize(
    ("method", "path", "lacking"),
    [("GET", "/probe/", "read"), ("DELETE", "/probe/", "delete from"), ("GET", "?", "list")],
)
async def test_every_permission_that_is_missing_is_named(
    settings: Settings, blobs: Blobs, method: str, path: str, lacking: str
) -> None:
    async with bucket_behind_proxy(settings) as (proxy, behind):
        proxy.refuses = lambda sent, at: (
            sent == method and path in at and "location" not in at and "versioning" not in at
        )
        findings = await examine(behind)
        assert lacking in named(findings, "S3 keys").message
        assert problems(findings) == ["S3 keys"]


@pytest.mark.any_stores
async def test_a_private_authority_is_explained_and_can_be_trusted(
    settings: Settings, blobs: Blobs, tmp_path: Path
) -> None:
    context, authority = tls.server_context(tmp_path)
    async with bucket_behind_proxy(settings, tls=context) as (_, behind):
        secure = behind.replace(s3_secure=True)
        found = named(await examine(secure), "S3")
        trusting = await examine(secure.replace(s3_ca_file=str(authority)))

    assert found.level is Level.PROBLEM
    assert "not signed by an authority" in found.message
    assert "INGOT_S3_CA_FILE" in found.message
    assert problems(trusting) == []


@pytest.mark.any_stores
@pytest.mark.parametrize(
    ("seconds", "level", "words"),
    [
        (0, Level.OK, "agrees"),
        (3, Level.WARNING, "ahead of"),
        (60, Level.PROBLEM, "s ahead of"),
        (-60, Level.PROBLEM, "s behind"),
    ],
)
async def test_clocks_that_disagree_are_reported(
    settings: Settings, blobs: Blobs, seconds: int, level: Level, words: str
) -> None:
    async with bucket_behind_proxy(settings) as (proxy, behind):
        proxy.clock_offset = timedelta(seconds=seconds)
        found = named(await examine(behind), "S3 clock")

    assert found.level is level
    assert words in found.message


@pytest.mark.any_stores
async def test_what_is_missing_is_named_with_what_to_do(
    settings: Settings, closed_port: int, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    findings = await examine(
        settings.replace(
            redis_url=f"redis://127.0.0.1:{closed_port}/0",
            broker_url=f"amqp://127.0.0.1:{closed_port}//",
            s3_endpoint=f"127.0.0.1:{closed_port}",
            egress_proxy=f"http://127.0.0.1:{closed_port}",
            scratch_dir=tmp_path / "file",
            sources_file=str(tmp_path / "missing.toml"),
        ),
        unknown=["INGOT_REDIS_ULR"],
    )

    wrong = {each.check: f"{each.message} {each.remedy}" for each in findings}
    assert set(problems(findings)) == {
        *("settings", "Redis", "broker", "S3", "egress proxy", "scratch"),
    }
    for check, variable in {
        "Redis": "INGOT_REDIS_URL",
        "broker": "INGOT_BROKER_URL",
        "S3": "INGOT_S3_ENDPOINT",
        "egress proxy": "INGOT_EGRESS_PROXY",
        "scratch": "INGOT_SCRATCH_DIR",
        "settings": "INGOT_SOURCES_FILE",
    }.items():
        assert variable in wrong[check]
    assert any("INGOT_REDIS_ULR" in each.message for each in findings)


@pytest.mark.any_stores
async def test_a_full_scratch_disk_is_reported(settings: Settings, blobs: Blobs) -> None:
    free = shutil.disk_usage("/").free
    full = settings.replace(scratch_reserve=ByteSize(free * 4))
    assert named(await examine(full), "scratch").level is Level.PROBLEM


@pytest.mark.any_stores
async def test_a_bucket_that_does_not_exist_is_not_created(settings: Settings) -> None:
    found = named(await examine(settings), "S3")
    assert found.level is Level.WARNING
    assert "does not exist" in found.message
    assert not minio_client(settings).bucket_exists(settings.s3_bucket)


@pytest.mark.any_stores
async def test_the_command_exits_with_1_if_there_is_a_problem(
    settings: Settings, blobs: Blobs
) -> None:
    healthy, cluster = await asyncio.gather(
        doctor(settings.environment()),
        doctor({"INGOT_REDIS_URL": "redis://a:1,b:1/0"}, "--json"),
    )

    assert (healthy[0], cluster[0]) == (0, 1)
    assert re.search(r"^ok +Redis  ", healthy[1], re.MULTILINE)
    assert json.loads(cluster[1])["level"] == "problem"


async def doctor(settings: dict[str, str], *arguments: str) -> tuple[int | None, str]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingot_server.cli", "doctor", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings},
    )
    output, _ = await child.communicate()
    return child.returncode, output.decode()
