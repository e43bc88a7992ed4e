"""Telegram's files from a fake Bot API (tests/telegram.py) on a real web server."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.setting_values import Secret
from ingot_server.telegram.bot_files import TelegramFile, trusted_server
from ingot_server.transfer.download import Downloaded, download
from tests.integration.telegram.bot_files_harness import (
    CLIP,
    FILE_URL,
    BotFilesHarness,
    running_harness,
    shown,
)
from tests.telegram import FILE_ID, TOKEN, FakeBotApi, company_proxy, found, refused
from tests.tls import server_context
from tests.web_server import web_server

pytestmark = pytest.mark.any_stores


async def test_a_bots_file_arrives_whole(harness: BotFilesHarness, api: FakeBotApi) -> None:
    received, content = await harness.take()
    assert content == CLIP
    assert received == TelegramFile(
        Downloaded(
            final_url=FILE_URL,
            filename="file_12.mp4",
            content_type="application/octet-stream",
            size_bytes=len(CLIP),
            sha256=hashlib.sha256(CLIP).hexdigest(),
            http_etag="",
            http_last_modified="",
            delivered=True,
        )
    )
    assert [path for _, path in api.asked] == [
        f"/bot{TOKEN}/getFile?file_id={FILE_ID}",
        f"/file/bot{TOKEN}/videos/file_12.mp4",
    ]
    assert harness.seen[0] == (0, len(CLIP))
    assert harness.seen[-1] == (len(CLIP), len(CLIP))


async def test_the_public_api_is_asked_through_the_guard_and_the_companys_proxy(
    settings: Settings, api: FakeBotApi, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    async with (
        web_server(api.handle, tls=context, cancels=True) as address,
        company_proxy({"api.telegram.org:443": address}) as proxy,
        running_harness(
            settings.replace(egress_proxy=proxy, egress_ca_file=str(authority))
        ) as harness,
    ):
        _, content = await harness.take()
    assert content == CLIP
    assert {host for host, _ in api.asked} == {"api.telegram.org"}


@pytest.mark.parametrize(
    ("answer", "reason", "metadata", "hint"),
    [
        (
            refused(400, "Bad Request: file is too big"),
            reason_pb2.REASON_TOO_LARGE,
            {"limited_by": "source", "limit_bytes": "20971520"},
            "INGOT_TELEGRAM_API_URL",
        ),
        (
            refused(400, "Bad Request: wrong file_id or the file is temporarily unavailable"),
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            {},
            "one bot only",
        ),
        (
            refused(400, "Bad Request: invalid file_id"),
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            {},
            "",
        ),
        (
            refused(401, "Unauthorized"),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_BOT_TOKEN"},
            "@BotFather",
        ),
        (
            refused(404, "Not Found"),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_BOT_TOKEN"},
            "@BotFather",
        ),
        (
            refused(400, "Logged out"),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_BOT_TOKEN"},
            "INGOT_TELEGRAM_API_URL",
        ),
        (refused(403, "Forbidden: bot was kicked"), reason_pb2.REASON_PRIVATE, {}, ""),
        (
            refused(500, f"Internal Server Error at /bot{TOKEN}/getFile"),
            reason_pb2.REASON_SOURCE_FAILED,
            {"http_status": "500"},
            "/bot***/getFile",
        ),
        (
            web.Response(status=502, text=f"<html>no /bot{TOKEN}</html>", content_type="text/html"),
            reason_pb2.REASON_SOURCE_FAILED,
            {"http_status": "502"},
            "the status 502",
        ),
        (web.Response(text="[]"), reason_pb2.REASON_SOURCE_FAILED, {"http_status": "200"}, ""),
        (web.Response(body=b"x" * 100_000), reason_pb2.REASON_SOURCE_FAILED, {}, "too long"),
        (found(None), reason_pb2.REASON_SOURCE_FAILED, {}, "does not name a path"),
        (found("../secret"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot be served"),
        (found("videos//a.mp4"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot be served"),
        (found("/etc/passwd"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot be served"),
        (found(f"/d/{TOKEN}/../x"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot be served"),
        (found("videos/file_12.mp4", 7), reason_pb2.REASON_TRUNCATED, {}, "7 bytes"),
    ],
)
async def test_what_the_bot_api_says_has_its_reason(
    harness: BotFilesHarness,
    api: FakeBotApi,
    answer: web.Response,
    reason: Reason.ValueType,
    metadata: dict[str, str],
    hint: str,
) -> None:
    api.answers = [answer]
    failure = await harness.failure()
    assert failure.reason == reason
    assert failure.metadata == metadata
    assert hint in failure.message
    assert TOKEN not in shown(failure)


async def test_flood_wait_is_honoured(harness: BotFilesHarness, api: FakeBotApi) -> None:
    api.answers = [refused(429, "Too Many Requests: retry after 37", {"retry_after": 37})]
    failure = await harness.failure()
    assert failure.reason == reason_pb2.REASON_RATE_LIMITED
    assert failure.retry_after == timedelta(seconds=37)
    assert failure.transient
    assert len(api.asked) == 1


async def test_a_silent_bot_api_is_given_up(harness: BotFilesHarness, api: FakeBotApi) -> None:
    harness.settings = harness.settings.replace(stall_timeout=timedelta(milliseconds=500))
    api.answers = [asyncio.Event()]
    failure = await harness.failure()
    assert failure.reason == reason_pb2.REASON_STALLED
    assert TOKEN not in shown(failure)


@pytest.mark.parametrize(
    ("token", "hint"),
    [("", "@BotFather"), (f"bot{TOKEN}", "not a token"), ("1:a/../../x", "not a token")],
)
async def test_without_a_token_it_says_what_to_set(
    harness: BotFilesHarness, token: str, hint: str
) -> None:
    harness.settings = harness.settings.replace(telegram_bot_token=Secret(token))
    failure = await harness.failure()
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert failure.metadata == {"setting": "INGOT_TELEGRAM_BOT_TOKEN"}
    assert hint in failure.message
    assert token == "" or token not in shown(failure)


@pytest.mark.parametrize("url", ["", "10.0.0.1:8081", "ftp://bots/", "http://bots/?a=b"])
async def test_a_base_url_that_is_none_is_named(harness: BotFilesHarness, url: str) -> None:
    harness.settings = harness.settings.replace(telegram_api_url=url)
    failure = await harness.failure()
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert failure.metadata == {"setting": "INGOT_TELEGRAM_API_URL"}


async def test_a_file_of_a_local_server_is_fetched_from_the_web_server_before_it(
    harness: BotFilesHarness, api: FakeBotApi
) -> None:
    big = CLIP * 9
    api.files = {"videos/a b.mp4": big}
    api.answers = [found(f"/var/lib/telegram-bot-api/{TOKEN}/videos/a b.mp4", len(big))]
    received, content = await harness.take()
    assert content == big
    assert received.downloaded.filename == "a b.mp4"
    api.files = {}
    failure = await harness.failure()
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert "--local" in failure.message
    assert TOKEN not in shown(failure)


async def test_only_passes_of_this_source_reach_the_server_of_ones_own(
    harness: BotFilesHarness, api: FakeBotApi
) -> None:
    """Callers' URLs stay guarded: same address, same port, same file."""
    url = f"{harness.settings.telegram_api_url}file/bot{TOKEN}/videos/file_12.mp4"
    trusted = trusted_server(harness.settings)
    assert trusted is not None
    for grant_trusts, asked_trusts in ((None, None), (None, trusted), (trusted, None)):
        egress_grant = harness.egress.grant("job", trusted=grant_trusts)
        async with harness.scratch.open("job", 1) as file:
            with pytest.raises(Failure) as caught:
                await download(
                    url,
                    file,
                    proxy_url=egress_grant.proxy_url,
                    settings=harness.settings,
                    trusted=asked_trusts,
                )
        egress_grant.revoke()
        assert caught.value.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert api.asked == []


async def test_a_server_of_ones_own_cannot_send_elsewhere_inside(
    harness: BotFilesHarness, api: FakeBotApi
) -> None:
    async with web_server(FakeBotApi([found("x")]).handle, cancels=True) as other:
        api.redirect = f"http://{other}/bot{TOKEN}/getFile?file_id=1"
        failure = await harness.failure()
    assert failure.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert TOKEN not in shown(failure)


@pytest.mark.parametrize("broken", ["gone", "cut", "closed", "forbidden"])
async def test_the_token_is_nowhere_to_be_seen(
    harness: BotFilesHarness, api: FakeBotApi, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if broken == "gone":
        api.files = {}
    elif broken == "cut":
        api.files = {"videos/file_12.mp4": CLIP[:1000]}
    elif broken == "closed":
        harness.settings = harness.settings.replace(telegram_api_url="http://127.0.0.1:1")
    else:
        harness.settings = harness.settings.replace(telegram_api_url="https://127.0.0.1:1")
    failure = await harness.failure()
    received = TelegramFile(Downloaded("", "", "", 0, "", "", "", delivered=True))
    seen = [shown(failure), repr(harness.settings), repr(received), caplog.text]
    seen += [repr(record.__dict__) for record in caplog.records]
    assert not [text for text in seen if TOKEN in text or TOKEN.partition(":")[2] in text]
