"""Telegram's files through a stand-in for the Bot API (tests/telegram.py), a real web server, and
what comes before and after MTProto. Whole ingests by MTProto are in test_telegram_ingest.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import random
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import telethon
from aiohttp import web
from telethon.crypto import AuthKey
from telethon.errors import rpcerrorlist
from telethon.sessions import StringSession

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import ByteSize, Secret, Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.pipeline.download import Downloaded, download
from ingot_server.pipeline.mtproto_failures import translated
from ingot_server.pipeline.scratch import Scratch
from ingot_server.pipeline.telegram import Received, receive, trusted_server
from ingot_server.sources import pick
from tests.telegram import FILE_ID, TOKEN, BotApi, company_proxy, found, refused, serving
from tests.tls import server_context

pytestmark = pytest.mark.sites

CLIP = random.Random(11).randbytes(700_001)
FILE_URL = f"telegram://video/{FILE_ID}"
PRIVATE_URL = "https://t.me/c/1234567890/42"
SECOND = timedelta(seconds=1)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        scratch_dir=tmp_path / "scratch",
        scratch_reserve=ByteSize(0),
        connect_timeout=SECOND,
        stall_timeout=SECOND / 2,
        stall_rate=ByteSize(1000),
        max_media_size=ByteSize(8 << 20),
        telegram_bot_token=Secret(TOKEN),
    )


@dataclass
class Desk:
    """All that receiving takes, and everything a person could see of it."""

    settings: Settings
    scratch: Scratch
    egress: EgressProxy
    seen: list[tuple[int, int | None]] = field(default_factory=list)

    async def take(self, url: str = FILE_URL) -> tuple[Received, bytes]:
        async with self.scratch.open("job", 1) as file:
            received = await receive(
                pick(url)[1],
                file,
                egress=self.egress,
                holder="job",
                settings=self.settings,
                progress=lambda done, total: self.seen.append((done, total)),
            )
            return received, file.path.read_bytes()

    async def failure(self, url: str = FILE_URL) -> Failure:
        with pytest.raises(Failure) as caught:
            await self.take(url)
        return caught.value


@asynccontextmanager
async def desk_for(settings: Settings) -> AsyncIterator[Desk]:
    scratch, egress = Scratch(settings), EgressProxy(settings)
    await scratch.start()
    await egress.start()
    try:
        yield Desk(settings, scratch, egress)
    finally:
        await egress.close()
        await scratch.close()


@pytest.fixture
def api() -> BotApi:
    return BotApi([found("videos/file_12.mp4", len(CLIP))], {"videos/file_12.mp4": CLIP})


@pytest.fixture
async def desk(settings: Settings, api: BotApi) -> AsyncIterator[Desk]:
    """With a Bot API server of one's own, at an address that callers' URLs never reach."""
    async with (
        serving(api) as address,
        desk_for(settings.replace(telegram_api_url=f"http://{address}/")) as desk,
    ):
        yield desk


async def test_a_bots_file_arrives_whole(desk: Desk, api: BotApi) -> None:
    received, content = await desk.take()
    assert content == CLIP
    assert received == Received(
        Downloaded(
            final_url=FILE_URL,
            filename="file_12.mp4",
            content_type="application/octet-stream",
            size_bytes=len(CLIP),
            sha256=hashlib.sha256(CLIP).hexdigest(),
            http_etag="",
            http_last_modified="",
        )
    )
    assert [path for _, path in api.asked] == [
        f"/bot{TOKEN}/getFile?file_id={FILE_ID}",
        f"/file/bot{TOKEN}/videos/file_12.mp4",
    ]
    assert desk.seen[0] == (0, len(CLIP))
    assert desk.seen[-1] == (len(CLIP), len(CLIP))


async def test_the_public_api_is_asked_through_the_guard_and_the_companys_proxy(
    settings: Settings, api: BotApi, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    async with (
        serving(api, context) as address,
        company_proxy({"api.telegram.org:443": address}) as proxy,
        desk_for(settings.replace(egress_proxy=proxy, egress_ca_file=str(authority))) as desk,
    ):
        _, content = await desk.take()
    assert content == CLIP
    assert {host for host, _ in api.asked} == {"api.telegram.org"}


@pytest.mark.parametrize(
    ("answer", "reason", "metadata", "hint"),
    [
        (
            refused(400, "Bad Request: file is too big"),
            reason_pb2.REASON_FILE_TOO_LARGE,
            {"limit_bytes": "20971520"},
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
        (web.Response(body=b"x" * 100_000), reason_pb2.REASON_SOURCE_FAILED, {}, "more than"),
        (found(None), reason_pb2.REASON_SOURCE_FAILED, {}, "no path"),
        (found("../secret"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot serve"),
        (found("videos//a.mp4"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot serve"),
        (found("/etc/passwd"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot serve"),
        (found(f"/d/{TOKEN}/../x"), reason_pb2.REASON_SOURCE_FAILED, {}, "cannot serve"),
        (found("videos/file_12.mp4", 7), reason_pb2.REASON_TRUNCATED, {}, "7 bytes"),
    ],
)
async def test_what_the_bot_api_says_has_its_reason(
    desk: Desk,
    api: BotApi,
    answer: web.Response,
    reason: Reason.ValueType,
    metadata: dict[str, str],
    hint: str,
) -> None:
    api.answers = [answer]
    failure = await desk.failure()
    assert failure.reason == reason
    assert failure.metadata == metadata
    assert hint in failure.message
    assert TOKEN not in shown(failure)


async def test_flood_wait_is_honoured(desk: Desk, api: BotApi) -> None:
    api.answers = [refused(429, "Too Many Requests: retry after 37", {"retry_after": 37})]
    failure = await desk.failure()
    assert failure.reason == reason_pb2.REASON_RATE_LIMITED
    assert failure.retry_after == timedelta(seconds=37)
    assert failure.transient
    assert len(api.asked) == 1


async def test_a_silent_bot_api_is_given_up(desk: Desk, api: BotApi) -> None:
    api.answers = [asyncio.Event()]
    failure = await desk.failure()
    assert failure.reason == reason_pb2.REASON_STALLED
    assert TOKEN not in shown(failure)


@pytest.mark.parametrize(
    ("token", "hint"),
    [("", "@BotFather"), (f"bot{TOKEN}", "no token"), ("1:a/../../x", "no token")],
)
async def test_without_a_token_it_says_what_to_set(desk: Desk, token: str, hint: str) -> None:
    desk.settings = desk.settings.replace(telegram_bot_token=Secret(token))
    failure = await desk.failure()
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert failure.metadata == {"setting": "INGOT_TELEGRAM_BOT_TOKEN"}
    assert hint in failure.message
    assert token == "" or token not in shown(failure)


@pytest.mark.parametrize("url", ["", "10.0.0.1:8081", "ftp://bots/", "http://bots/?a=b"])
async def test_a_base_url_that_is_none_is_named(desk: Desk, url: str) -> None:
    desk.settings = desk.settings.replace(telegram_api_url=url)
    failure = await desk.failure()
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert failure.metadata == {"setting": "INGOT_TELEGRAM_API_URL"}


async def test_a_file_of_a_local_server_is_fetched_from_the_web_server_before_it(
    desk: Desk, api: BotApi
) -> None:
    big = CLIP * 9
    api.files = {"videos/a b.mp4": big}
    api.answers = [found(f"/var/lib/telegram-bot-api/{TOKEN}/videos/a b.mp4", len(big))]
    received, content = await desk.take()
    assert content == big
    assert received.downloaded.filename == "a b.mp4"
    api.files = {}
    failure = await desk.failure()
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert "--local" in failure.message
    assert TOKEN not in shown(failure)


async def test_only_passes_of_this_source_reach_the_server_of_ones_own(
    desk: Desk, api: BotApi
) -> None:
    """Callers' URLs stay guarded: same address, same port, same file."""
    url = f"{desk.settings.telegram_api_url}file/bot{TOKEN}/videos/file_12.mp4"
    trusted = trusted_server(desk.settings)
    assert trusted is not None
    for pass_trusts, asked_trusts in ((None, None), (None, trusted), (trusted, None)):
        egress_pass = desk.egress.issue("job", trusted=pass_trusts)
        async with desk.scratch.open("job", 1) as file:
            with pytest.raises(Failure) as caught:
                await download(
                    url,
                    file,
                    proxy_url=egress_pass.proxy_url,
                    settings=desk.settings,
                    trusted=asked_trusts,
                )
        egress_pass.revoke()
        assert caught.value.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert api.asked == []


async def test_a_server_of_ones_own_cannot_send_elsewhere_inside(desk: Desk, api: BotApi) -> None:
    async with serving(BotApi([found("x")])) as other:
        api.redirect = f"http://{other}/bot{TOKEN}/getFile?file_id=1"
        failure = await desk.failure()
    assert failure.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert TOKEN not in shown(failure)


@pytest.mark.parametrize("broken", ["gone", "cut", "closed", "forbidden"])
async def test_the_token_is_nowhere_to_be_seen(
    desk: Desk, api: BotApi, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    if broken == "gone":
        api.files = {}
    elif broken == "cut":
        api.files = {"videos/file_12.mp4": CLIP[:1000]}
    elif broken == "closed":
        desk.settings = desk.settings.replace(telegram_api_url="http://127.0.0.1:1")
    else:
        desk.settings = desk.settings.replace(telegram_api_url="https://127.0.0.1:1")
    failure = await desk.failure()
    received = Received(Downloaded("", "", "", 0, "", "", ""))
    seen = [shown(failure), repr(desk.settings), repr(received), caplog.text]
    seen += [repr(record.__dict__) for record in caplog.records]
    assert not [text for text in seen if TOKEN in text or TOKEN.partition(":")[2] in text]


def shown(failure: Failure) -> str:
    """Everything that is told of a failure: to callers, in the job, and in logs."""
    chain: list[BaseException] = []
    following: BaseException | None = failure
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return "\n".join(
        [
            *(f"{item!r} {item} {vars(item)}" for item in chain),
            str(failure.status()),
            *traceback.format_exception(failure),
        ]
    )


# MTProto, with nobody at the other end who speaks it.


def session(address: str = "149.154.167.51", port: int = 443) -> Secret:
    """A session of a data centre at `address`, with a key that no server has."""
    made = StringSession()
    made.set_dc(2, str(ipaddress.ip_address(address)), port)
    made.auth_key = AuthKey(bytes(range(256)))
    return Secret(made.save())


@pytest.fixture
def private_settings(settings: Settings) -> Settings:
    return settings.replace(
        telegram_api_id=12345,
        telegram_api_hash=Secret("0123456789abcdef0123456789abcdef"),
        telegram_session=session(),
    )


@pytest.mark.parametrize(
    ("missing", "empty"),
    [("telegram_api_id", 0), ("telegram_api_hash", Secret("")), ("telegram_session", Secret(""))],
)
async def test_a_private_post_without_an_account_says_what_to_set(
    private_settings: Settings, missing: str, empty: object
) -> None:
    async with desk_for(private_settings.replace(**{missing: empty})) as desk:
        failure = await desk.failure(PRIVATE_URL)
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert failure.metadata == {"setting": f"INGOT_{missing.upper()}"}
    assert "docs/sources.md" in failure.message


@pytest.mark.parametrize("text", ["nonsense", "1short", "1" + "A" * 352, "2" + "A" * 352])
async def test_a_session_that_is_none_is_named_and_not_shown(
    private_settings: Settings, text: str
) -> None:
    async with desk_for(private_settings.replace(telegram_session=Secret(text))) as desk:
        failure = await desk.failure(PRIVATE_URL)
    assert failure.reason in {
        reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
        reason_pb2.REASON_SOURCE_UNREACHABLE,
    }
    assert text not in failure.message


async def test_telethon_goes_through_the_guard_only(private_settings: Settings) -> None:
    """A session decides which address is dialled; a private one is refused there too."""
    dialled = asyncio.Event()

    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    guarded = private_settings.replace(telegram_session=session("127.0.0.1", port))
    async with server, desk_for(guarded) as desk:
        failure = await desk.failure(PRIVATE_URL)
        assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
        assert not dialled.is_set()
    opened = guarded.replace(egress_allow_loopback=True)
    server = await asyncio.start_server(accept, "127.0.0.1", port)
    async with server, desk_for(opened) as desk:
        failure = await desk.failure(PRIVATE_URL)
        assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
        assert dialled.is_set()


async def test_cancelling_a_connection_to_telegram_takes_less_than_a_second(
    private_settings: Settings,
) -> None:
    dialled = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    opened = private_settings.replace(
        telegram_session=session("127.0.0.1", port), egress_allow_loopback=True
    )
    async with server, desk_for(opened) as desk:
        taking = asyncio.create_task(desk.take(PRIVATE_URL))
        await dialled.wait()
        taking.cancel()
        async with asyncio.timeout(1):
            await asyncio.wait([taking])
        assert taking.cancelled()


Made = Callable[[], Exception]


@pytest.mark.parametrize(
    ("make", "reason", "metadata"),
    [
        (
            lambda: rpcerrorlist.FloodWaitError(None, capture=321),
            reason_pb2.REASON_RATE_LIMITED,
            {"http_status": "420"},
        ),
        (
            lambda: rpcerrorlist.FloodPremiumWaitError(None, capture=321),
            reason_pb2.REASON_RATE_LIMITED,
            {"http_status": "420"},
        ),
        (lambda: rpcerrorlist.ChannelPrivateError(None), reason_pb2.REASON_PRIVATE, {}),
        (lambda: rpcerrorlist.ChannelInvalidError(None), reason_pb2.REASON_PRIVATE, {}),
        (lambda: rpcerrorlist.UserBannedInChannelError(None), reason_pb2.REASON_PRIVATE, {}),
        (
            lambda: rpcerrorlist.MessageIdInvalidError(None),
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            {},
        ),
        (
            lambda: rpcerrorlist.AuthKeyUnregisteredError(None),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_SESSION"},
        ),
        (
            lambda: rpcerrorlist.SessionRevokedError(None),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_SESSION"},
        ),
        (
            lambda: rpcerrorlist.AuthKeyDuplicatedError(None),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_SESSION"},
        ),
        (
            lambda: rpcerrorlist.ApiIdInvalidError(None),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_API_ID"},
        ),
        (
            lambda: rpcerrorlist.ApiIdPublishedFloodError(None),
            reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
            {"setting": "INGOT_TELEGRAM_API_ID"},
        ),
        (
            lambda: rpcerrorlist.FileReferenceExpiredError(None),
            reason_pb2.REASON_SOURCE_FAILED,
            {"http_status": "400"},
        ),
        (
            lambda: telethon.errors.ServerError(None, "INTERNAL", 500),
            reason_pb2.REASON_SOURCE_FAILED,
            {"http_status": "500"},
        ),
        (ConnectionError, reason_pb2.REASON_SOURCE_UNREACHABLE, {}),
        (
            telethon.errors.SecurityError,
            reason_pb2.REASON_SOURCE_FAILED,
            {"http_status": "500"},
        ),
    ],
)
def test_what_telethon_raises_has_its_reason(
    make: Made, reason: Reason.ValueType, metadata: dict[str, str]
) -> None:
    failure = translated(make(), telethon.errors)
    assert (failure.reason, failure.metadata) == (reason, metadata)
    if reason == reason_pb2.REASON_RATE_LIMITED:
        assert failure.retry_after == timedelta(seconds=321)


def test_what_a_message_says_goes_into_the_media() -> None:
    when = datetime(2026, 10, 21, 17, 26, tzinfo=UTC)
    media = Media(title="file tag")
    nothing = Downloaded("", "", "", 1, "", "", "")
    Received(nothing).describe(media)
    assert media == Media(title="file tag")
    Received(nothing, " Lake\nat dawn", "Clips", when).describe(media)
    assert (media.title, media.description) == ("Lake", " Lake\nat dawn")
    assert media.uploader == "Clips"
    assert media.publish_time.ToDatetime(tzinfo=UTC) == when
