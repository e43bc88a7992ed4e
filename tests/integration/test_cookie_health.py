"""What Ingot tells of cookies after sites have answered jobs. YouTube is a fake."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingot import Client
from ingot.v1 import job_pb2
from ingot.v1.source_service_pb2 import CookiesStatus
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.cookie_health import CookieHealth
from ingot_server.doctor.cookies import check_cookies
from ingot_server.findings import Level
from ingot_server.log_events import Event
from ingot_server.redis import Redis
from ingot_server.source_settings import read_source_settings
from tests.harness import running_harness
from tests.leaks import MARK
from tests.refusals import reason_name_of
from tests.scraped import Scraped, scrape
from tests.videos import AGE_RESTRICTED, Video
from tests.waiting import until
from tests.youtube import FakeYouTube

pytestmark = pytest.mark.any_stores

ID = "dQw4-9Wg_cQ"
OTHER = "abcdefghij_"
LOGIN = ("LOGIN_INFO", "SAPISID")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        yield site


def write_cookies(path: Path, *names: str) -> None:
    path.write_text(
        "# Netscape HTTP Cookie File\n"
        + "".join(f".youtube.com\tTRUE\t/\tTRUE\t4070908800\t{name}\t{MARK}\n" for name in names)
    )


@pytest.fixture
def cookies(tmp_path: Path) -> Path:
    write_cookies(tmp_path / "cookies.txt", *LOGIN)
    return tmp_path / "cookies.txt"


@pytest.fixture
def given(settings: Settings, site: FakeYouTube, cookies: Path) -> Settings:
    """Settings with the cookies for the site."""
    sources = cookies.with_name("sources.toml")
    sources.write_text(f'[youtube]\ncookies = "{cookies.name}"\n')
    return site.settings(settings).replace(sources_file=str(sources), attempts=1)


async def shown(settings: Settings) -> tuple[CookiesStatus, Scraped, list[str]]:
    """What an API server says of the cookies: in ListSources, as metrics, as problems."""
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        [youtube] = [each for each in await client.sources() if each.name == "youtube"]
        problems = [each.summary for each in (await client.system()).problems]
        return youtube.cookies, await scrape(f"http://{addresses.http}/metrics"), problems


async def test_a_site_that_asks_to_sign_in_has_rejected_the_cookies_until_they_are_renewed(
    given: Settings, site: FakeYouTube, cookies: Path, clip: bytes
) -> None:
    site.videos[ID] = Video(clip, playability=AGE_RESTRICTED, opens_for="RENEWED")
    async with running_harness(given) as harness:
        refused = await harness.ingest(f"youtu.be/{ID}")
        rejected, metrics, problems = await shown(given)
        [finding] = await check_cookies(given)
        write_cookies(cookies, *LOGIN, "RENEWED")
        renewed, _, _ = await shown(given)
        opened = await harness.ingest(f"youtu.be/{ID}", max_age={"seconds": 0})
        accepted, _, _ = await shown(given)

    assert reason_name_of(refused) == "AGE_RESTRICTED"
    assert rejected.state == CookiesStatus.STATE_REJECTED
    assert rejected.summary == "youtube.com does not accept the cookies of youtube any more."
    assert rejected.summary in problems
    assert (finding.level, finding.message) == (Level.WARNING, rejected.summary)
    labels = {"source": "youtube"}
    assert metrics.value("ingot_source_cookies", **labels) == 1
    assert metrics.value("ingot_source_cookies", **labels, state="REJECTED") == 1
    assert (renewed.state, renewed.HasField("answer_time")) == (CookiesStatus.STATE_VALID, False)
    assert opened.state == job_pb2.JOB_STATE_SUCCEEDED, opened
    assert (accepted.state, accepted.HasField("answer_time")) == (CookiesStatus.STATE_VALID, True)


async def test_an_account_that_is_signed_out_is_told_also_if_the_media_came(
    given: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip, playability=AGE_RESTRICTED, opens_for="SAPISID")
    site.signs_out = True
    async with running_harness(given) as harness:
        job = await harness.ingest(f"youtu.be/{ID}")
    status, _, _ = await shown(given)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert status.state == CookiesStatus.STATE_REJECTED


async def test_a_job_goes_on_without_cookies_that_cannot_be_read(
    given: Settings, site: FakeYouTube, cookies: Path
) -> None:
    site.videos[ID] = Video(playability=AGE_RESTRICTED)
    async with running_harness(given) as harness:
        write_cookies(cookies, "no\ttabs")
        refused = await harness.ingest(f"youtu.be/{ID}")

    assert reason_name_of(refused) == "AGE_RESTRICTED"
    assert len(site.asked("/watch")) == 1


async def test_each_change_of_a_state_is_one_event(
    given: Settings, redis: Redis, cookies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    health = CookieHealth(redis, read_source_settings(given, ["youtube", "web"]))
    caplog.set_level(logging.INFO)

    def events() -> list[str]:
        return [each.getMessage() for each in caplog.records if _is_event(each)]

    async def next_event(number: int) -> str:
        await until(lambda: len(events()) >= number)
        [*_, last] = found = events()
        assert len(found) == number
        return last

    async with asyncio.TaskGroup() as tasks:
        reporting = tasks.create_task(health.keep_reporting(look_seconds=0.01))
        own = await health.of("youtube")
        assert own is not None
        await health.record(own, "https://vimeo.com/1", accepted=False)  # which gets none of them
        await health.record(own, "https://www.youtube.com/watch", accepted=False)
        assert "are rejected. youtube.com does not accept" in await next_event(1)
        write_cookies(cookies, *LOGIN, "RENEWED")
        assert "are valid" in await next_event(2)
        cookies.unlink()
        assert "are unreadable" in await next_event(3)
        assert await health.of("youtube") is None
        reporting.cancel()

    assert MARK not in caplog.text


def _is_event(record: logging.LogRecord) -> bool:
    return getattr(record, "event", None) is Event.COOKIES_STATE
