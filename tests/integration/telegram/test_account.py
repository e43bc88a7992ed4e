"""What happens before and after MTProto, with no MTProto server at the other end.

Whole ingests by MTProto are in tests/integration/test_telegram_ingest.py.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import telethon
from telethon.crypto import AuthKey
from telethon.errors import rpcerrorlist
from telethon.sessions import StringSession

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.setting_values import Secret
from ingot_server.telegram.bot_files import TelegramFile
from ingot_server.telegram.mtproto_failures import translated
from ingot_server.transfer.download import Downloaded
from tests.integration.telegram.bot_files_harness import running_harness
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores
PRIVATE_URL = "https://t.me/c/1234567890/42"


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
        # Whoever hangs up at once is called for as long as both together.
        connect_timeout=timedelta(seconds=3),
        stall_timeout=timedelta(milliseconds=500),
    )


@pytest.mark.parametrize(
    ("missing", "empty"),
    [("telegram_api_id", 0), ("telegram_api_hash", Secret("")), ("telegram_session", Secret(""))],
)
async def test_a_private_post_without_an_account_says_what_to_set(
    private_settings: Settings, missing: str, empty: object
) -> None:
    async with running_harness(private_settings.replace(**{missing: empty})) as harness:
        failure = await harness.failure(PRIVATE_URL)
    assert failure.reason == reason_pb2.REASON_SOURCE_NOT_CONFIGURED
    assert failure.metadata == {"setting": f"INGOT_{missing.upper()}"}
    assert "docs/sources.md" in failure.message


@pytest.mark.parametrize("text", ["nonsense", "1short", "1" + "A" * 352, "2" + "A" * 352])
async def test_a_session_that_is_none_is_named_and_not_shown(
    private_settings: Settings, text: str
) -> None:
    async with running_harness(private_settings.replace(telegram_session=Secret(text))) as harness:
        failure = await harness.failure(PRIVATE_URL)
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
    opened = guarded.replace(egress_allow_loopback=True)
    async with server:
        for allowing in (guarded, opened):
            async with running_harness(allowing) as harness:
                failure = await harness.failure(PRIVATE_URL)
                assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
                assert dialled.is_set() == allowing.egress_allow_loopback


async def test_cancelling_a_connection_to_telegram_does_not_wait_for_it(
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
        telegram_session=session("127.0.0.1", port),
        egress_allow_loopback=True,
        connect_timeout=timedelta(minutes=5),
    )
    async with server, running_harness(opened) as harness:
        taking = asyncio.create_task(harness.take(PRIVATE_URL))
        await dialled.wait()
        taking.cancel()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await asyncio.wait([taking])
        assert taking.cancelled()


Transcoded = Callable[[], Exception]


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
    make: Transcoded, reason: Reason.ValueType, metadata: dict[str, str]
) -> None:
    failure = translated(make(), telethon.errors)
    assert (failure.reason, failure.metadata) == (reason, metadata)
    if reason == reason_pb2.REASON_RATE_LIMITED:
        assert failure.retry_after == timedelta(seconds=321)


def test_what_a_message_says_goes_into_the_media() -> None:
    when = datetime(2026, 10, 21, 17, 26, tzinfo=UTC)
    media = Media(title="file tag")
    nothing = Downloaded("", "", "", 1, "", "", "", delivered=True)
    TelegramFile(nothing).describe(media)
    assert media == Media(title="file tag")
    TelegramFile(nothing, " Lake\nat dawn", "Clips", when).describe(media)
    assert (media.title, media.description) == ("Lake", " Lake\nat dawn")
    assert media.uploader == "Clips"
    assert media.publish_time.ToDatetime(tzinfo=UTC) == when
