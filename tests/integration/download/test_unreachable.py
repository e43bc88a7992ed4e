"""Sources that are slow, silent, or not to be reached, and connections that are closed."""

from __future__ import annotations

import asyncio
import time
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.library.manifest_pb2 import SourceVersion
from ingot_server.setting_values import ByteSize, SettingError
from ingot_server.transfer.fetch import Fetcher
from ingot_server.transfer.growing_file import Abandoned
from ingot_server.transfer.ranges import RangedDownload
from ingot_server.transfer.scratch import Scratch
from tests.integration.download.download_harness import CLIP, DownloadHarness
from tests.origin import Origin, Page, running_origin
from tests.scratch_and_proxy import SECOND
from tests.tls import server_context
from tests.waiting import TIMEOUT_SECONDS

# Bytes a second at which the clip would take longer than anything here waits.
SLOW = len(CLIP) / (4 * TIMEOUT_SECONDS)


async def test_a_source_that_never_answers_has_stalled(
    origin: Origin, harness: DownloadHarness
) -> None:
    harness.hurry()
    begin = time.monotonic()
    failure = await harness.failure(origin.serve("/clip.mp4", Page(CLIP, silent_after=-1)))
    assert failure.reason == reason_pb2.REASON_STALLED
    assert time.monotonic() - begin > 0.9


@pytest.mark.parametrize(
    "page", [Page(CLIP, silent_after=0), Page(CLIP, silent_after=300_000), Page(CLIP, rate=20)]
)
async def test_a_source_below_the_rate_has_stalled(
    origin: Origin, harness: DownloadHarness, page: Page
) -> None:
    harness.hurry()
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_STALLED
    await origin.idle()
    assert len(origin.log) == 1


async def test_a_range_below_the_rate_has_stalled(
    origin: Origin, harness: DownloadHarness, tmp_path: Path
) -> None:
    harness.hurry()
    harness.settings = harness.settings.replace(stall_rate=ByteSize(1 << 20))
    url = origin.serve("/clip.mp4", Page(CLIP, rate=200_000))
    egress = harness.proxy.grant("job")
    async with Fetcher(harness.settings, egress.proxy_url) as fetcher:
        ranged = RangedDownload(
            url, tmp_path / "ranges", fetcher, harness.settings, lambda done, total: None
        )
        with pytest.raises(Failure) as failed:
            await ranged.begin(len(CLIP), SourceVersion())
    assert failed.value.reason == reason_pb2.REASON_STALLED


async def test_a_source_that_breaks_off_again_and_again_keeps_the_least_rate(
    origin: Origin, harness: DownloadHarness
) -> None:
    harness.settings = harness.settings.replace(
        least_rate=ByteSize(1 << 20), least_rate_period=SECOND
    )
    page = Page(CLIP, rate=100_000, breaks_always=20_000)
    failure = await harness.failure(origin.serve("/clip.mp4", page))
    assert failure.reason == reason_pb2.REASON_STALLED
    assert "INGOT_LEAST_RATE" in failure.message
    assert len(origin.log) > 1


async def test_a_slow_source_above_the_rate_is_waited_for(
    origin: Origin, harness: DownloadHarness
) -> None:
    harness.hurry()
    content = CLIP[:40_000]
    await harness.take(origin.serve("/clip.mp4", Page(content, rate=20_000)), content)


async def test_a_download_ends_at_its_time_limit(origin: Origin, harness: DownloadHarness) -> None:
    harness.settings = harness.settings.replace(download_timeout=SECOND / 4)
    failure = await harness.failure(origin.serve("/clip.mp4", Page(CLIP, rate=50_000)))
    assert failure.reason == reason_pb2.REASON_STAGE_TIMEOUT
    assert failure.metadata == {"stage": "DOWNLOADING"}


async def test_a_closed_port_is_unreachable(harness: DownloadHarness, closed_port: int) -> None:
    failure = await harness.failure(f"http://127.0.0.1:{closed_port}/clip.mp4")
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
    failure = await harness.failure(f"https://127.0.0.1:{closed_port}/clip.mp4")
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE


async def test_a_response_that_is_not_http_or_tls_is_reported_as_such(
    origin: Origin, harness: DownloadHarness
) -> None:
    url = origin.serve("/clip.mp4", Page(raw=b"SSH-2.0-OpenSSH_9.2\r\n\r\n"))
    failure = await harness.failure(url)
    assert failure.reason in {
        reason_pb2.REASON_SOURCE_UNREACHABLE,
        reason_pb2.REASON_SOURCE_FAILED,
    }
    failure = await harness.failure(url.replace("http:", "https:"))
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE


async def test_an_unknown_host_is_not_found(settings: Settings) -> None:
    async def resolve(host: str) -> list[IPv4Address]:
        raise OSError(f"{host} is unknown")

    scratch, proxy = Scratch(settings), EgressProxy(settings, resolve=resolve)
    await scratch.start()
    await proxy.start()
    harness = DownloadHarness(settings, scratch, proxy)
    for scheme in ("http", "https"):
        failure = await harness.failure(f"{scheme}://clip.invalid/clip.mp4")
        assert failure.reason == reason_pb2.REASON_HOST_NOT_FOUND
    await proxy.close()
    await scratch.close()


async def test_a_cancelled_download_closes_its_connection_at_once(
    origin: Origin, harness: DownloadHarness
) -> None:
    url = origin.serve("/clip.mp4", Page(CLIP, rate=SLOW))
    async with harness.file() as file:
        downloading = asyncio.create_task(harness.into(file, url))
        await harness.moving.wait()
        downloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await downloading
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await origin.idle()
        with file.tail() as tail_reader, pytest.raises(Abandoned):
            tail_reader.read(1)
    assert not file.path.exists()


async def test_a_certificate_of_the_given_authority_is_trusted_and_no_other(
    harness: DownloadHarness, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    async with running_origin(context) as origin:
        url = origin.serve("/clip.mp4", Page(CLIP, breaks=[300_000]))
        failure = await harness.failure(url)
        assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
        assert "INGOT_EGRESS_CA_FILE" in failure.message
        assert origin.log == []
        harness.settings = harness.settings.replace(egress_ca_file=str(authority))
        await harness.take(url)
        assert [asked.headers.get("Range") for asked in origin.log] == [None, "bytes=300000-"]


async def test_an_authority_that_cannot_be_read_is_named(
    harness: DownloadHarness, tmp_path: Path
) -> None:
    harness.settings = harness.settings.replace(egress_ca_file=str(tmp_path / "none.pem"))
    async with harness.file() as file:
        with pytest.raises(SettingError, match="INGOT_EGRESS_CA_FILE"):
            await harness.into(file, "https://127.0.0.1/clip.mp4")


async def test_over_tls_a_cancelled_or_stalled_download_closes_its_connection_at_once(
    harness: DownloadHarness, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    harness.settings = harness.settings.replace(egress_ca_file=str(authority))
    async with running_origin(context) as origin:
        harness.hurry()
        silent = origin.serve("/silent.mp4", Page(CLIP, silent_after=-1))
        assert (await harness.failure(silent)).reason == reason_pb2.REASON_STALLED
        url = origin.serve("/clip.mp4", Page(CLIP, rate=SLOW))
        async with harness.file() as file:
            downloading = asyncio.create_task(harness.into(file, url))
            await origin.arrived(2)
            downloading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await downloading
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await origin.idle()
