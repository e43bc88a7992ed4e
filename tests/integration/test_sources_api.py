"""Where media can come from: over gRPC, over HTTP and on the command line, from a real server."""

from __future__ import annotations

import importlib.metadata
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from ingot.client import Client
from ingot.v1 import reason_pb2
from ingot.v1.source_service_pb2 import SourceStatus
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.redis import connect
from ingot_server.setting_values import Secret, SettingError
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES
from tests.ingot_command import run_command

pytestmark = pytest.mark.any_stores


async def listed(settings: Settings) -> dict[str, SourceStatus]:
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        return {source.name: source for source in await client.sources()}


async def refuse(settings: Settings) -> None:
    """Has YouTube ask a job for a proof that no bot asks."""
    async with connect(settings) as redis:
        throttle = SourceThrottle(redis, read_source_settings(settings, ["youtube"]), settings)
        await throttle.record_outcome(
            "youtube", Failure(reason_pb2.REASON_BOT_CHECK, "Sign in to confirm")
        )


async def test_every_source_is_listed_in_order_with_what_it_accepts(settings: Settings) -> None:
    found = await listed(settings)
    assert list(found) == [source.name for source in SOURCES]
    assert all(source.accepts for source in found.values())
    youtube = found["youtube"]
    assert youtube.health == SourceStatus.HEALTH_HEALTHY
    assert (youtube.rate, youtube.rate_period.ToTimedelta()) == (300, timedelta(hours=1))
    assert youtube.max_concurrency == 8
    assert youtube.extractor_version == importlib.metadata.version("yt-dlp")
    assert not found["http"].HasField("rate_period")
    assert not found["http"].extractor_version


async def test_what_the_settings_say_shows_without_its_secrets(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "cookies.txt").write_text(
        "# Netscape HTTP Cookie File\n.youtube.com\tTRUE\t/\tTRUE\t0\tSID\thunter2\n"
    )
    path = tmp_path / "sources.toml"
    path.write_text(
        '[youtube]\ncookies = "cookies.txt"\nproxy = "http://a:hunter2@proxy.example:1"\n'
        "rate = 0\nconcurrency = 2\n"
    )
    youtube = (await listed(settings.replace(sources_file=str(path))))["youtube"]
    assert youtube.has_cookies
    assert youtube.has_proxy
    assert (youtube.rate, youtube.max_concurrency) == (0, 2)
    assert "hunter2" not in str(youtube)
    path.write_text("[youtube]\nspeed = 1\n")
    with pytest.raises(SettingError, match="speed"):
        await listed(settings.replace(sources_file=str(path)))


async def test_a_source_without_its_setting_says_so(settings: Settings) -> None:
    assert (await listed(settings))["telegram_file"].health == SourceStatus.HEALTH_NOT_CONFIGURED
    given = settings.replace(telegram_bot_token=Secret("1:token"))
    assert (await listed(given))["telegram_file"].health == SourceStatus.HEALTH_HEALTHY


async def test_a_source_that_refuses_us_is_blocked(settings: Settings) -> None:
    await refuse(settings)
    youtube = (await listed(settings))["youtube"]
    assert youtube.health == SourceStatus.HEALTH_BLOCKED
    assert youtube.reason == reason_pb2.REASON_BOT_CHECK
    ahead = youtube.retry_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(seconds=50) < ahead <= timedelta(minutes=1)


async def test_over_http_it_is_the_same(settings: Settings) -> None:
    async with (
        running(settings) as addresses,
        aiohttp.ClientSession(f"http://{addresses.http}") as http,
        http.post("/ingot.v1.SourceService/ListSources", json={}) as response,
    ):
        assert response.status == 200
        sources = (await response.json())["sources"]
    assert [source["name"] for source in sources] == [source.name for source in SOURCES]
    assert sources[0]["health"] == "HEALTH_HEALTHY"


async def test_the_command_line_shows_each_source_with_its_health(settings: Settings) -> None:
    await refuse(settings)

    async def command(server: str, *arguments: str) -> str:
        code, stdout, stderr = await run_command(server, *arguments)
        assert (code, stderr) == (0, "")
        return stdout

    async with running(settings) as addresses:
        text = await command(addresses.grpc, "sources")
        lines = await command(addresses.grpc, "sources", "--json")
    youtube = next(line for line in text.splitlines() if line.startswith("youtube "))
    assert "blocked (bot check), next attempt 20" in youtube
    assert "300 per hour, 8 at once" in youtube
    assert "not configured" in text
    assert "error: No worker for ingests is running" in text
    assert "Start `ingot-server worker`" in text
    parsed = [json.loads(line) for line in lines.splitlines()]
    assert [source["name"] for source in parsed] == [source.name for source in SOURCES]
