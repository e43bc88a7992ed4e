"""docs/debugging.md: the commands people look into a running server with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ingot import Client
from tests.installation import Installation
from tests.origin import Origin, Page

BUF = Path(sys.executable).with_name("buf")
BUILT = Path(__file__).parents[2] / ".cache" / "bin" / "grpcurl"


@pytest.fixture(scope="module")
def grpcurl() -> str:
    found = shutil.which("grpcurl") or (str(BUILT) if BUILT.exists() else None)
    if found is None:
        if os.environ.get("REQUIRE_ALL_SERVERS"):
            raise FileNotFoundError("grpcurl")
        pytest.skip(f"grpcurl is neither in the PATH nor at {BUILT}")
    return found


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def messages(output: str) -> list[dict[str, dict[str, object]]]:
    decoder, found, rest = json.JSONDecoder(), [], output.strip()
    while rest:
        message, end = decoder.raw_decode(rest)
        found.append(message)
        rest = rest[end:].strip()
    return found


async def test_grpcurl_lists_describes_and_streams(
    ingot: Installation, client: Client, origin: Origin, clip: bytes, grpcurl: str
) -> None:
    job = await client.ingest_video(origin.serve("/grpcurl.mp4", Page(clip)))
    await job
    at = (grpcurl, "-plaintext")

    services = run(*at, ingot.grpc_address, "list").split()
    described = run(*at, ingot.grpc_address, "describe", "ingot.v1.JobService.WatchJob")
    request = json.dumps({"job_id": job.id})
    watched = messages(run(*at, "-d", request, ingot.grpc_address, "ingot.v1.JobService/WatchJob"))

    assert {"ingot.v1.IngestService", "ingot.v1.JobService", "ingot.v1.MediaService"} <= {*services}
    assert "returns ( stream .ingot.v1.WatchJobResponse )" in described
    assert [message["job"]["state"] for message in watched] == ["JOB_STATE_SUCCEEDED"]


async def test_buf_curl_lists_and_streams(
    ingot: Installation, client: Client, origin: Origin, clip: bytes
) -> None:
    job = await client.ingest_video(origin.serve("/buf.mp4", Page(clip)))
    await job
    at = (BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc")
    server = f"http://{ingot.grpc_address}"

    services = run(*at, "--list-services", server).split()
    request = json.dumps({"job_id": job.id})
    watched = messages(run(*at, "-d", request, f"{server}/ingot.v1.JobService/WatchJob"))

    assert {"ingot.v1.IngestService", "ingot.v1.JobService", "ingot.v1.MediaService"} <= {*services}
    assert [message["job"]["state"] for message in watched] == ["JOB_STATE_SUCCEEDED"]
