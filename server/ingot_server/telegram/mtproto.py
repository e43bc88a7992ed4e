"""Posts of channels and groups, received by an account, which must be a member of private ones.

    connect -> the channel's entity -> the message -> its file, half a MiB per request
                                    -> the messages around it -> those of its album

This is Telegram's own protocol, MTProto, spoken by telethon, which is in the extra
`ingot-server[telegram]` and is imported only for such a post. MTProto is plain TCP to an address in
the session. It goes through the egress guard in a CONNECT tunnel that python-socks opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large
from ingot_server.telegram.mtproto_failures import (
    foreign,
    not_configured,
    session_refused,
    translated,
    withheld,
)
from ingot_server.transfer.download import Downloaded
from ingot_server.transfer.fetch import stalled
from ingot_server.transfer.scratch import ScratchFile

_TELEGRAM: Final = "Telegram"
_SETTINGS: Final = ("telegram_api_id", "telegram_api_hash", "telegram_session")
_REQUEST_BYTES: Final = 512 << 10
# Stall timeouts that a request for messages may take: an account may have many chats.
_STALL_TIMEOUTS: Final = 3
_DISCONNECT_TIMEOUT: Final = timedelta(seconds=0.5)
# An album has at most ten messages, with consecutive numbers.
_ALBUM_MESSAGES: Final = 9
_LAST_MESSAGE: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Message:
    """A message whose file is complete in scratch space."""

    downloaded: Downloaded
    text: str
    channel: str
    """The title of the channel or group."""
    publish_time: datetime | None


async def receive(
    channel: int | str,
    message: int,
    file: ScratchFile,
    *,
    proxy_url: str,
    settings: Settings,
    progress: Callable[[int, int | None], None],
    on_found: Callable[[Media], None],
) -> Message:
    """Receive the file of a message into `file`, and complete it.

    `on_found` is called with what the message says of it, before its bytes are received.
    `channel` is the number of a private channel, or the name of a public one.
    Raises Failure: SOURCE_NOT_CONFIGURED without a session that works, PRIVATE, NOT_MEDIA,
    MEDIA_DOES_NOT_EXIST, RATE_LIMITED with Telegram's own wait, and what a transfer can fail with.
    """
    async with _account(proxy_url, settings) as (telethon, client):
        return await _receive(
            telethon, client, channel, message, file, settings, progress, on_found
        )


async def posted_together(
    channel: int | str, message: int, *, proxy_url: str, settings: Settings
) -> tuple[str, list[int]]:
    """Return the channel's title, and the messages with media in the album of `message`.

    A message without an album is returned alone. Raises Failure as `receive` does.
    """
    first, last = max(1, message - _ALBUM_MESSAGES), min(message + _ALBUM_MESSAGES, _LAST_MESSAGE)
    async with _account(proxy_url, settings) as (telethon, client):
        found = await _messages(telethon, client, channel, range(first, last + 1), settings)
        asked = next((each for each in found if each.id == message), None)
        if asked is None:
            raise _no_message()
        album = [
            each
            for each in found
            if each is asked or (asked.grouped_id and each.grouped_id == asked.grouped_id)
        ]
        return await _title(asked), [each.id for each in album if _media(each) is not None]


@contextlib.asynccontextmanager
async def _account(proxy_url: str, settings: Settings) -> AsyncIterator[tuple[Any, Any]]:
    """Yield telethon and a client that has logged in. Translates their exceptions to Failure."""
    check_configured(settings)
    # Importing telethon takes about a second, once: it has a thousand classes.
    telethon = await asyncio.to_thread(_telethon)
    client = _client(telethon, proxy_url, settings)
    try:
        async with asyncio.timeout(settings.download_timeout.total_seconds()) as limit:
            try:
                await _connect(client, settings)
                yield telethon, client
            except foreign(telethon) as exc:
                if limit.expired():
                    raise TimeoutError from exc
                raise translated(exc, telethon.errors) from exc
    except TimeoutError as exc:
        raise Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"Receiving the file took longer than {settings.download_timeout}. "
            "INGOT_DOWNLOAD_TIMEOUT sets the limit.",
            metadata={"stage": "DOWNLOADING"},
        ) from exc
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DISCONNECT_TIMEOUT.total_seconds()):
                await client.disconnect()


def configured(settings: Settings) -> bool:
    """Return whether an account is configured."""
    return all(getattr(settings, setting) for setting in _SETTINGS)


def check_configured(settings: Settings) -> None:
    """Raise Failure SOURCE_NOT_CONFIGURED, which names a missing setting, without an account."""
    for setting in _SETTINGS:
        if not getattr(settings, setting):
            raise not_configured(
                setting,
                "Posts of private Telegram channels need an account that is a member. Set "
                "INGOT_TELEGRAM_API_ID, INGOT_TELEGRAM_API_HASH and INGOT_TELEGRAM_SESSION; "
                "docs/sources.md says how to get them.",
            )


def _telethon() -> Any:
    try:
        importlib.import_module("python_socks.async_.asyncio")
        return importlib.import_module("telethon")
    except ImportError as exc:
        raise not_configured(
            "telegram_session",
            "Posts of private Telegram channels need telethon. Install `ingot-server[telegram]`.",
        ) from exc


def _client(telethon: Any, proxy_url: str, settings: Settings) -> Any:
    """Return a client that is not connected yet and writes nothing to the disk."""
    try:
        session = telethon.sessions.StringSession(str(settings.telegram_session))
    except Exception as exc:  # struct.error, binascii.Error, ValueError: undocumented
        raise not_configured(
            "telegram_session",
            "INGOT_TELEGRAM_SESSION is not a session. Set it to the text that telethon's "
            "StringSession.save() returns.",
        ) from exc
    guard = urlsplit(proxy_url)
    return telethon.TelegramClient(
        session,
        settings.telegram_api_id,
        str(settings.telegram_api_hash),
        proxy={
            "proxy_type": "http",
            "addr": guard.hostname,
            "port": guard.port,
            "username": unquote(guard.username or ""),
            "password": unquote(guard.password or ""),
        },
        timeout=max(1, int(settings.connect_timeout.total_seconds())),
        request_retries=2,
        connection_retries=2,
        # A short wait, which occurs within a file, is slept here; for a long one the job waits.
        flood_sleep_threshold=int(settings.stall_timeout.total_seconds() / 2),
        receive_updates=False,
        device_model="Ingot",
        app_version="0.1",
    )


async def _connect(client: Any, settings: Settings) -> None:
    """Log in. Without this limit a server that closes each connection would be retried for ever."""
    seconds = (settings.connect_timeout + settings.stall_timeout).total_seconds()
    try:
        async with asyncio.timeout(seconds):
            await client.connect()
            authorized = await client.is_user_authorized()
    except TimeoutError as exc:
        raise Failure(
            reason_pb2.REASON_SOURCE_UNREACHABLE,
            f"Telegram's servers did not respond within {seconds:g} s.",
        ) from exc
    if not authorized:
        raise session_refused()


async def _receive(
    telethon: Any,
    client: Any,
    channel: int | str,
    number: int,
    file: ScratchFile,
    settings: Settings,
    progress: Callable[[int, int | None], None],
    on_found: Callable[[Media], None],
) -> Message:
    [message] = await _messages(telethon, client, channel, [number], settings) or [None]
    if message is None:
        raise _no_message()
    found = _media(message)
    if found is None:
        kind = message.file.mime_type if message.document is not None else None
        raise Failure(
            reason_pb2.REASON_NOT_MEDIA,
            "The message has no video or audio.",
            metadata={"content_type": kind or ""},
        )
    _check_size(found.size, settings)
    file.reserve(found.size)
    text, channel_title = message.message or "", await _title(message)
    on_found(_announced(found, text, channel_title))
    progress(0, found.size)
    received = 0
    async for part in _parts(client, message.document, settings):
        await file.write(part)
        received += len(part)
        progress(received, found.size)
    if received != found.size:
        raise Failure(
            reason_pb2.REASON_TRUNCATED,
            f"Telegram announced {found.size} bytes and sent {received}.",
        )
    await file.complete()
    downloaded = Downloaded(
        final_url="",
        filename=found.name or "",
        content_type=found.mime_type,
        size_bytes=received,
        sha256=file.sha256,
        http_etag="",
        http_last_modified="",
        delivered=True,
    )
    return Message(downloaded, text, channel_title, message.date)


def _announced(found: Any, text: str, channel: str) -> Media:
    """Return what a message says of its file."""
    title = title_of(text) or PurePosixPath(found.name or "").stem
    media = Media(title=title, uploader=channel)
    if found.duration:
        media.duration.FromTimedelta(timedelta(seconds=found.duration))
    return media


def title_of(text: str) -> str:
    """Return the title that the text of a message stands for: its first line."""
    return next(iter(text.strip().splitlines()), "")[:255]


async def _messages(
    telethon: Any, client: Any, channel: int | str, numbers: Sequence[int], settings: Settings
) -> list[Any]:
    """Return those of the messages that exist."""
    seconds = _STALL_TIMEOUTS * settings.stall_timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            entity = await _entity(telethon, client, channel)
            found = await client.get_messages(entity, ids=list(numbers))
    except TimeoutError as exc:
        raise stalled(_TELEGRAM, seconds) from exc
    return [message for message in found if message is not None]


def _media(message: Any) -> Any:
    """Return the file of a message if it is video or audio, or else None."""
    found = message.file if message.document is not None else None
    is_media = found is not None and (found.mime_type or "").startswith(("video/", "audio/"))
    return found if is_media else None


async def _title(message: Any) -> str:
    """Return the title of the channel or group of a message."""
    return getattr(await message.get_chat(), "title", "") or ""


def _no_message() -> Failure:
    return Failure(
        reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "The channel has no message of this number."
    )


async def _entity(telethon: Any, client: Any, channel: int | str) -> Any:
    """Return the channel as requests name it: with an access hash.

    Members have the hash of a private channel. That of a public one is requested by its name.
    """
    if isinstance(channel, str):
        try:
            found = await client.get_input_entity(channel)
        except ValueError:
            found = None
        # If the name belongs to a user, messages of this number would be the account's own.
        if not isinstance(found, telethon.types.InputPeerChannel):
            raise Failure(
                reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, f"Telegram has no channel @{channel}."
            )
        return found
    peer = telethon.types.PeerChannel(channel)
    try:
        return await client.get_input_entity(peer)
    except ValueError:
        if await client.is_bot():  # a bot has no list of chats
            raise withheld() from None
    async for dialog in client.iter_dialogs():
        if dialog.is_channel and dialog.entity.id == channel:
            return dialog.input_entity
    raise withheld()


async def _parts(client: Any, document: Any, settings: Settings) -> AsyncIterator[bytes]:
    seconds = settings.stall_timeout.total_seconds()
    parts = client.iter_download(document, request_size=_REQUEST_BYTES)
    while True:
        try:
            async with asyncio.timeout(seconds):
                part = await anext(parts, b"")
        except TimeoutError as exc:
            raise stalled(_TELEGRAM, seconds) from exc
        if not part:
            return
        yield bytes(part)


def _check_size(size: int, settings: Settings) -> None:
    limit = int(settings.max_media_size)
    if size > limit:
        raise too_large(limit, size)
