"""A caller sees its own limits, and how much of each it uses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from ingot import errors
from ingot.client import Client
from ingot.v1.ingest_service_pb2 import CreateUploadUrlRequest
from ingot.v1.system_service_pb2 import GetQuotaResponse, QuotaStatus
from ingot_server.access_tokens import entry, new_token
from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.jobs.daily_bytes import next_day
from ingot_server.jobs.records import Records
from tests.ingot_command import run_command

QUOTA = {
    "calls": "500",
    "jobs": "7",
    "queued_jobs": "6",
    "running_jobs": "5",
    "daily_bytes": "2000000",
    "stored_bytes": "9000000",
    "watches": "3",
    "upload_links": "4",
}


def by_name(quota: GetQuotaResponse) -> Mapping[str, QuotaStatus]:
    assert [each.name for each in quota.quotas] == list(QUOTA)
    return {each.name: each for each in quota.quotas}


@pytest.fixture
def token() -> str:
    return new_token()


@pytest.fixture
async def address(settings: Settings, token: str) -> AsyncIterator[str]:
    """A server that the caller `recorder` may use within QUOTA."""
    tokens = entry(token, "recorder", ["read", "ingest"], None, QUOTA)
    async with running(settings.replace(tokens=tokens)) as addresses:
        yield addresses.grpc


async def test_what_a_caller_uses_is_counted_against_its_limits(
    address: str, token: str, records: Records
) -> None:
    await records.daily_bytes.count("recorder", 1_500_000)
    await records.daily_bytes.count("another", 1)
    async with Client(address, token=token) as client:
        unused = by_name(await client.quota())
        assert not unused["upload_links"].HasField("reset_time")

        job = await client.ingest_video("http://127.0.0.1:9999/one.mp4")
        request = CreateUploadUrlRequest(size_bytes=9, content_type="video/mp4")
        connection = client._connection
        link = await connection.call(connection.ingest.CreateUploadUrl, request)
        async with aclosing(client.watch_jobs()) as watching:
            await anext(watching)
            quota = await client.quota()

    assert quota.caller == "recorder"
    found = by_name(quota)
    assert [each.limit for each in quota.quotas] == [int(each) for each in QUOTA.values()]
    assert not found["calls"].HasField("used")
    assert [each.used for each in quota.quotas[1:]] == [1, 1, 0, 1_500_000, 0, 1, 1]
    assert [each.used for each in list(unused.values())[1:]] == [0, 0, 0, 1_500_000, 0, 0, 0]
    assert found["daily_bytes"].reset_time.ToDatetime(UTC) == next_day()
    expiry = found["upload_links"].reset_time.ToDatetime(UTC)
    assert abs(expiry - link.expire_time.ToDatetime(UTC)) < timedelta(seconds=1)
    assert not found["jobs"].HasField("reset_time")
    await records.cancel(job.id)


async def test_the_command_shows_it_to_people_and_to_programs(address: str, token: str) -> None:
    environment = {"INGOT_TOKEN": token}
    shown, printed = await asyncio.gather(
        run_command(address, "quota", environment=environment),
        run_command(address, "--json", "quota", environment=environment),
    )
    assert (shown.code, printed.code) == (0, 0), shown.stderr + printed.stderr
    assert "Caller recorder" in shown.stdout
    assert ["daily", "bytes", "0", "B", "2", "MB"] in map(str.split, shown.stdout.splitlines())
    (quota, *_) = json.loads(printed.stdout)["quotas"]
    assert (quota["name"], quota["limit"]) == ("calls", "500")


async def test_who_has_no_limits_is_told_so(settings: Settings) -> None:
    unlimited = settings.replace(watches_per_caller=0, upload_links_per_caller=0)
    async with running(unlimited) as addresses, Client(addresses.grpc) as client:
        quota = await client.quota()
    assert quota.caller == ""
    assert not any(each.limit for each in by_name(quota).values())
    for name in ("daily_bytes", "stored_bytes"):
        assert not by_name(quota)[name].HasField("used"), name


async def test_it_needs_the_scope_read(settings: Settings, token: str) -> None:
    tokens = entry(token, "recorder", ["ingest"], None, {})
    async with (
        running(settings.replace(tokens=tokens)) as addresses,
        Client(addresses.grpc, token=token) as client,
    ):
        with pytest.raises(errors.IngotError, match="`read`"):
            await client.quota()


async def test_a_link_counts_until_it_expires(records: Records) -> None:
    links = records.open_links
    for offset, lifetime in ((0, timedelta(hours=2)), (1, timedelta(hours=1)), (2, timedelta(0))):
        await links.add("recorder", "upload", offset, 1, lifetime=lifetime, most=9)
    count, first = await links.open("recorder")
    assert count == 2
    assert first is not None
    assert abs(first - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
