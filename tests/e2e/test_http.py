"""The main job once more, as a script without gRPC does it: JSON over HTTP."""

from __future__ import annotations

import hashlib
import json
import struct

import aiohttp

from ingot import Client
from tests.installation import Installation
from tests.origin import Origin, Page
from tests.scraped import scrape

END_OF_STREAM = 2


async def test_one_url_in_one_media_out_over_http(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/over-http.mp4", Page(clip))
    address = ingot.wait_for(r"^HTTP\s+(\S+)")[1]
    async with aiohttp.ClientSession(f"http://{address}") as http:
        async with http.get("/healthz") as response:
            assert response.status == 200
        async with http.post("/ingot.v1.IngestService/Ingest", json={"url": url}) as response:
            job = (await response.json())["job"]
        assert job["state"] == "JOB_STATE_QUEUED"

        request = json.dumps({"jobId": job["id"]}).encode()
        async with http.post(
            "/ingot.v1.JobService/WatchJob",
            data=struct.pack(">BI", 0, len(request)) + request,
            headers={"Content-Type": "application/connect+json"},
        ) as response:
            flags, frames = 0, []
            while flags != END_OF_STREAM:
                flags, size = struct.unpack(">BI", await response.content.readexactly(5))
                frames.append(json.loads(await response.content.readexactly(size)))
        assert frames[-1] == {}
        jobs = [frame["job"] for frame in frames if "job" in frame]
        revisions = [int(job["revision"]) for job in jobs]
        assert revisions == sorted(set(revisions))
        assert jobs[-1]["state"] == "JOB_STATE_SUCCEEDED"

        async with http.post("/ingot.v1.MediaService/GetMedia", json={"url": url}) as response:
            media = (await response.json())["media"]
        assert media["blob"]["sha256"] == hashlib.sha256(clip).hexdigest()
        link = {"mediaId": media["id"]}
        async with http.post("/ingot.v1.MediaService/CreateDownloadUrl", json=link) as response:
            download_url = (await response.json())["url"]
        async with aiohttp.request("GET", download_url) as response:
            assert await response.read() == clip


async def test_one_scrape_has_the_server_and_the_worker(
    ingot: Installation, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/measured.mp4", Page(clip))
    address = ingot.wait_for(r"^HTTP\s+(\S+)")[1]
    before = await scrape(f"http://{address}/metrics")
    async with Client(ingot.grpc_address) as client:
        media = await (await client.ingest_video(url))
    after = await scrape(f"http://{address}/metrics")

    for name, labels, gained in (
        ("ingot_calls_total", {"method": "IngestService/Ingest", "code": "OK"}, 1),
        ("ingot_jobs_ended_total", {"state": "SUCCEEDED", "source": "http"}, 1),
        ("ingot_stored_bytes_total", {"source": "http"}, media.blob.size_bytes),
    ):
        assert after.value(name, **labels) == before.value(name, **labels) + gained
    for work in ("fetch", "convert"):
        assert after.value("ingot_workers", work=work) == 1
    assert 0 < after.value("ingot_scratch_free_bytes") < after.value("ingot_scratch_size_bytes")


async def test_the_printed_address_opens_the_web_page(ingot: Installation) -> None:
    address = ingot.wait_for(r"^page\s+(\S+)")[1]
    async with aiohttp.request("GET", address) as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
