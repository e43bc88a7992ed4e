"""Subscriptions: real servers and workers, and feeds of a real web server that grow.

yt-dlp's generic extractor reads the feeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from xml.etree import ElementTree as ET

import aiohttp
import pytest

from ingot import errors
from ingot.client import Client
from ingot.job import IngestJob
from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.subscription_pb2 import Subscription
from ingot_server.app import running
from ingot_server.following.subscriptions import Subscriptions
from ingot_server.library.blobs import Blobs
from tests.ingot_command import run_command
from tests.origin import Page
from tests.playlist_harness import PlaylistHarness, ingot, worker
from tests.waiting import JOB_SECONDS

pytestmark = pytest.mark.any_stores

__all__ = ["ingot"]

ITEM = "<item><title>Episode {0}</title>{2}<enclosure url='{1}' type='video/mp4'/></item>"
NOW = datetime(2026, 11, 30, tzinfo=UTC)


def serve_feed(
    ingot: PlaylistHarness, urls: Sequence[str], *, published: Sequence[datetime] = ()
) -> str:
    """A feed with the latest episode first. `published` is when each was."""
    dates = [f"<pubDate>{format_datetime(moment)}</pubDate>" for moment in published]
    dates += [""] * (len(urls) - len(dates))
    items = [
        ITEM.format(number, *each) for number, each in enumerate(zip(urls, dates, strict=True))
    ]
    channel = f"<channel><title>Bells</title>{''.join(items[::-1])}</channel>"
    feed = f"<?xml version='1.0'?><rss version='2.0'>{channel}</rss>"
    page = Page(feed.encode(), content_type="application/rss+xml")
    return ingot.origin.serve("/feed.xml", page)


@asynccontextmanager
async def served(ingot: PlaylistHarness, servers: int = 1) -> AsyncIterator[tuple[Client, str]]:
    """A caller of an Ingot with one worker, and the address of its HTTP port."""
    async with AsyncExitStack() as stack:
        for _ in range(servers):
            addresses = await stack.enter_async_context(running(ingot.settings))
        stack.enter_context(worker(ingot))
        yield await stack.enter_async_context(Client(addresses.grpc)), f"http://{addresses.http}"


async def checked(client: Client, subscription: Subscription) -> Subscription:
    """The subscription after its next check."""
    async with asyncio.timeout(JOB_SECONDS):
        while True:
            found = await client.subscription(subscription.id)
            if found.last_check_time != subscription.last_check_time:
                return found
            await asyncio.sleep(0.05)


async def check_now(client: Client, subscription: Subscription) -> Subscription:
    return await checked(client, await client.check_subscription(subscription.id))


async def jobs_of(client: Client) -> list[Job]:
    """All jobs after their end."""
    return [await end_of(await client.job(job.id)) async for job in client.jobs()]


async def end_of(job: IngestJob) -> Job:
    async with asyncio.timeout(JOB_SECONDS):
        async for _ in job:
            pass
    return job.latest


async def test_each_new_entry_becomes_a_job(ingot: PlaylistHarness) -> None:
    episodes = ingot.entries(5)
    url = serve_feed(ingot, episodes[:2])
    async with served(ingot) as (client, http):
        # It is stored already, so it is not fetched again.
        await end_of(await client.ingest_video(episodes[1]))
        followed, again = [
            await client.follow(
                url, labels={"show": "bells"}, exclude_titles=["episode 2"], request_id="once"
            )
            for _ in range(2)
        ]
        assert again.id == followed.id
        first = await checked(client, followed)
        assert (first.title, first.entry_count, first.job_count) == ("Bells", 2, 2)
        assert not first.HasField("last_error")
        serve_feed(ingot, episodes[:4])
        second = await check_now(client, first)
        assert (second.entry_count, second.job_count, second.seen_count) == (4, 3, 3)

        paused = await client.update_subscription(followed.id, paused=True)
        assert not paused.HasField("next_check_time")
        with pytest.raises(errors.InvalidRequest):
            await client.check_subscription(followed.id)
        serve_feed(ingot, episodes)
        resumed = await client.update_subscription(
            followed.id, paused=False, interval=timedelta(minutes=5), exclude_titles=[]
        )
        third = await checked(client, resumed)
        assert (third.job_count, third.interval.seconds) == (5, 300)

        jobs = [job for job in await jobs_of(client) if job.subscription_id == followed.id]
        assert {job.url for job in jobs} == set(episodes)
        assert {job.state for job in jobs} == {job_pb2.JOB_STATE_SUCCEEDED}
        assert {job.list_title for job in jobs} == {"Bells"}
        assert [job.cached for job in jobs if job.url == episodes[1]] == [True]
        assert all(job.labels == {"show": "bells"} for job in jobs)
        assert len(ingot.origin.gets("/entry-1.mp4")) == 1

        await check_podcast(client, http, ingot, followed)
        await client.unfollow(followed.id)
        assert [each async for each in client.subscriptions()] == []
        with pytest.raises(errors.SubscriptionNotFound):
            await client.check_subscription(followed.id)


async def check_podcast(
    client: Client, base: str, ingot: PlaylistHarness, followed: Subscription
) -> None:
    """The feeds of the subscription and of its label have its files, until they are deleted."""
    made = await client.create_feed(subscription_id=followed.id)
    labelled = await client.create_feed(labels={"show": "bells"}, title="By label")
    async with aiohttp.ClientSession() as http:
        feed, head = await read_feed(http, base + made.path)
        items = feed.findall("channel/item")
        assert (feed.findtext("channel/title"), len(items)) == ("Bells", 5)
        assert len((await read_feed(http, base + labelled.path))[0].findall("channel/item")) == 4
        async with http.get(base + made.path, headers={"If-None-Match": head["ETag"]}) as same:
            assert same.status == 304
        enclosure = items[0].find("enclosure")
        assert enclosure is not None
        link = enclosure.attrib["url"]
        async with http.head(link) as described:
            assert described.headers["Content-Length"] == enclosure.attrib["length"]
            assert described.headers["Content-Type"] == enclosure.attrib["type"] == "video/mp4"
        async with http.get(link, headers={"Range": "bytes=10-19"}) as part:
            assert (part.status, await part.read()) == (206, ingot.tiny[10:20])
        # A link opens one file, and only of its own feed.
        other = items[1].find("enclosure")
        assert other is not None
        media_id = other.attrib["url"].rpartition("/")[2].partition("-")[0]
        forged = f"{link.rpartition('/')[0]}/{media_id}-{link.rpartition('-')[2]}"
        for wrong in (forged, f"{base}/feeds/unknown", f"{base}/feeds/"):
            async with http.get(wrong) as refused:
                assert refused.status == 404
        # yt-dlp reads it as a feed, too.
        podcast = await client.follow(base + made.path, mark_seen=True)
        assert (await checked(client, podcast)).entry_count == 5
        await client.unfollow(podcast.id)

        assert {each.id async for each in client.feeds()} == {made.feed.id, labelled.feed.id}
        await client.delete_feed(made.feed.id)
        with pytest.raises(errors.FeedNotFound):
            await client.delete_feed(made.feed.id)
        for gone in (base + made.path, link):
            async with http.get(gone) as refused:
                assert refused.status == 404


async def read_feed(http: aiohttp.ClientSession, url: str) -> tuple[ET.Element, Mapping[str, str]]:
    async with http.get(url) as response:
        assert response.status == 200
        assert response.content_type == "application/rss+xml"
        return ET.fromstring(await response.text()), response.headers


async def test_only_later_entries_become_jobs(ingot: PlaylistHarness) -> None:
    episodes = ingot.entries(3)
    days = [NOW - timedelta(days=9), NOW - timedelta(days=1), NOW]
    url = ingot.origin.url("/feed.xml")
    async with served(ingot) as (client, _):
        failed = await checked(client, await client.follow(url, interval=timedelta(days=1)))
        assert failed.failure_count == 1
        assert failed.last_error.message
        wait = failed.next_check_time.ToDatetime(UTC) - failed.last_check_time.ToDatetime(UTC)
        assert timedelta(minutes=8) < wait < timedelta(minutes=12)
        await client.mark_subscription_seen(failed.id)

        serve_feed(ingot, episodes[:2], published=days[:2])
        marked = await check_now(client, await client.subscription(failed.id))
        assert (marked.job_count, marked.failure_count) == (0, 0)
        assert not marked.HasField("last_error")
        since = await client.follow(url, published_after=NOW - timedelta(days=2))
        assert (await checked(client, since)).job_count == 1
        serve_feed(ingot, episodes, published=days)
        assert (await check_now(client, marked)).job_count == 1
        assert (await check_now(client, await client.subscription(since.id))).job_count == 2
        assert {job.url for job in await jobs_of(client)} == set(episodes[1:])


async def test_subscriptions_outlive_servers_and_redis(ingot: PlaylistHarness) -> None:
    episodes = ingot.entries(3)
    url = serve_feed(ingot, episodes[:2])
    async with running(ingot.settings) as addresses, Client(addresses.grpc) as client:
        followed = await client.follow(url)
        # Without a worker, the check does not end.
        check = f"ingot:subscription-check:{followed.id}"
        async with asyncio.timeout(JOB_SECONDS):
            while not await ingot.redis.exists(check):  # noqa: ASYNC110 - in Redis
                await asyncio.sleep(0.05)
    # What a server leaves that is killed: a lease that nobody renews.
    await ingot.redis.set(check, "killed", px=500)
    async with served(ingot, servers=2) as (client, _):
        first = await checked(client, followed)
        assert first.job_count == 2
        assert {job.url for job in await jobs_of(client)} == set(episodes[:2])
        deleted = await client.follow(url)
        await client.unfollow(deleted.id)

        await ingot.redis.flushdb()
        serve_feed(ingot, episodes)
        restored = [each async for each in client.subscriptions()]
        assert [each.id for each in restored] == [followed.id]
        assert (restored[0].title, restored[0].seen_count) == ("Bells", 2)
        assert (await check_now(client, restored[0])).job_count == 3
        assert episodes[2] in {job.url for job in await jobs_of(client)}


async def test_one_server_at_a_time_checks_a_subscription(ingot: PlaylistHarness) -> None:
    blobs = Blobs(ingot.settings)
    index = Subscriptions(ingot.redis, blobs).index
    lease = timedelta(minutes=1)
    await index.put("s1", b"", revision=1, etag="1", owner="", paused=False)
    assert await index.take(5, "first", lease) == ["s1"]
    # Somebody asks for a check meanwhile.
    await index.put("s1", b"", revision=2, etag="2", owner="", paused=False, delay=timedelta(0))
    assert await index.take(5, "second", lease) == []
    await index.put("s1", b"", revision=2, etag="2", owner="", paused=False, delay=timedelta(0))
    await index.finish("s1", "second", Subscription(), timedelta(hours=1))
    await index.finish("s1", "first", Subscription(entry_count=3), timedelta(hours=1))
    assert (await index.get_many(["s1"]))[0].status.entry_count == 3
    assert await index.take(5, "third", lease) == ["s1"]
    await index.finish("s1", "third", Subscription(), timedelta(hours=1))
    assert await index.take(5, "fourth", lease) == []
    # An earlier version does not replace a later one, and what is gone stays so.
    await index.put("s1", b"old", revision=1, etag="1", owner="", paused=False)
    assert (await index.get_many(["s1"]))[0].content == b""
    await index.remove("s1")
    await index.put("s1", b"", revision=3, etag="3", owner="", paused=False)
    assert await index.get_many(["s1"]) == []
    await blobs.close()


async def test_refused_subscriptions(ingot: PlaylistHarness) -> None:
    settings = ingot.settings.replace(subscriptions_per_caller=1)
    async with running(settings) as addresses, Client(addresses.grpc) as client:
        for url, kind in (
            ("https://www.youtube.com/watch?v=p9kdDet7G14", errors.InvalidRequest),
            ("s3://bucket/list", errors.IngotError),
            ("http://10.0.0.1/feed.xml", errors.AddressForbidden),
        ):
            with pytest.raises(kind):
                await client.follow(url)
        with pytest.raises(errors.InvalidRequest) as refused:
            await client.follow("https://example.com/feed", interval=timedelta(seconds=1))
        assert "subscription.interval" in refused.value.violations
        await client.follow("https://example.com/feed")
        with pytest.raises(errors.IngotError) as full:
            await client.follow("https://example.com/feed")
        assert full.value.reason == "QUOTA_EXCEEDED"


async def test_the_commands(ingot: PlaylistHarness) -> None:
    url = serve_feed(ingot, ingot.entries(1))
    async with running(ingot.settings) as addresses:
        server = addresses.grpc
        result = await run_command(server, "follow", url, "--mark-seen", "--every", "30m")
        assert (result.code, "follows" in result.stdout) == (0, True)
        listed = await run_command(server, "following")
        assert url in listed.stdout
        result = await run_command(server, "pause", url)
        assert (result.code, "paused" in result.stdout) == (0, True)
        assert (await run_command(server, "unfollow", url)).code == 0
        assert (await run_command(server, "unfollow", url)).code == 1
