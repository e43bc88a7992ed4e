"""Files that need an account at Telegram: of bots by the Bot API, of private posts by MTProto.

    file_id -> getFile -> URL of the file -> download      (core.telegram.org/bots/api#getfile)
    private post -> mtproto.py

That URL contains the bot's token. Only `Located` and the requests made with it have the URL.
Nothing that leaves this module contains it, failures and their causes included.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote, urlsplit

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large_for_source
from ingot_server.foreign_json import parse_json
from ingot_server.sources.http import normalise
from ingot_server.sources.source import Identity
from ingot_server.sources.telegram import file_id_of, message_of
from ingot_server.telegram import mtproto
from ingot_server.telegram.mtproto_failures import not_configured
from ingot_server.transfer.download import Downloaded, download
from ingot_server.transfer.fetch import Fetcher
from ingot_server.transfer.scratch import ScratchFile

PUBLIC_API: Final = "https://api.telegram.org"
PUBLIC_LIMIT: Final = 20 << 20
"""Largest file that getFile offers, except on a server of your own that runs with `--local`."""

_RESPONSE_BYTES: Final = 1 << 16
_TOKEN: Final = re.compile(r"[0-9]{1,20}:[A-Za-z0-9_-]{1,255}")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Located:
    """The place of a bot's file for the next hour."""

    url: str = field(repr=False)
    """Contains the token. Fetch it, but never log, store or show it."""
    size_bytes: int | None
    filename: str
    local: bool
    """The server runs with `--local`, so that a web server in front of it serves the file."""


@dataclass(frozen=True, slots=True)
class TelegramFile:
    """A file that is complete in scratch space, and its message. Unknown fields are empty."""

    downloaded: Downloaded
    text: str = ""
    channel: str = ""
    publish_time: datetime | None = None

    def describe(self, media: Media) -> None:
        """Fill in what the message says."""
        if self.text:
            media.title = mtproto.title_of(self.text)
            media.description = self.text
        if self.channel:
            media.uploader = self.channel
        if self.publish_time is not None:
            media.publish_time.FromDatetime(self.publish_time)


async def receive(
    identity: Identity,
    file: ScratchFile,
    *,
    proxy_url: str,
    settings: Settings,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    on_found: Callable[[Media], None] = lambda _media: None,
) -> TelegramFile:
    """Receive the bot's file or the message that `identity` names into `file`, and complete it.

    `proxy_url` is of a grant for `trusted_server(settings)`; `progress` is as in `download`.
    `on_found` is called with what Telegram says of the file, before its bytes are received. A
    failure or a cancellation also fails the file. Safe to repeat.
    """
    try:
        file_id = file_id_of(identity)
        if file_id is None:
            message = await mtproto.receive(
                *message_of(identity),
                file,
                proxy_url=proxy_url,
                settings=settings,
                progress=progress,
                on_found=on_found,
            )
            downloaded = replace(message.downloaded, final_url=identity.url)
            return TelegramFile(downloaded, message.text, message.channel, message.publish_time)
        located = await locate(file_id, proxy_url=proxy_url, settings=settings)
        on_found(Media(title=PurePosixPath(located.filename).stem))
        return TelegramFile(
            await _download(located, file, identity.url, proxy_url, settings, progress)
        )
    except BaseException as exc:
        file.fail(exc)
        raise


async def locate(file_id: str, *, proxy_url: str, settings: Settings) -> Located:
    """Return the place of a bot's file, which the Bot API knows.

    `proxy_url` is of a grant for `trusted_server(settings)`. Raises Failure:
    SOURCE_NOT_CONFIGURED, MEDIA_DOES_NOT_EXIST, TOO_LARGE, RATE_LIMITED, and what a request
    can fail with. A retry is safe.
    """
    base, token = _base(settings), _token(settings)
    try:
        status, response = await _call_api(
            f"{base}/bot{token}/getFile?file_id={quote(file_id, safe='')}", proxy_url, settings
        )
        result = response.get("result")
        if status != 200 or response.get("ok") is not True or not isinstance(result, dict):
            raise _refusal(status, response, settings)
        path, size = result.get("file_path"), result.get("file_size")
        if not isinstance(path, str) or not path:
            raise _unusable(settings, "does not name a path for the file")
        served = _served(path, token, settings)
        return Located(
            url=f"{base}/file/bot{token}/{quote(served, safe='/')}",
            size_bytes=size if isinstance(size, int) and size > 0 else None,
            filename=PurePosixPath(served).name,
            local=served != path,
        )
    except Failure as failure:
        _forget_causes(failure)
        raise


def trusted_server(settings: Settings) -> tuple[str, int] | None:
    """Return the installation's own Bot API server for an egress grant; None for the public one.

    The settings name it, as they name Redis and S3, so it may have a private address. Only the
    grants of jobs that call it include it, and a job of this source fetches no other URL.
    """
    base = _base(settings)
    if base == PUBLIC_API:
        return None
    parts = urlsplit(base)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


async def _download(
    located: Located,
    file: ScratchFile,
    shown_url: str,
    proxy_url: str,
    settings: Settings,
    progress: Callable[[int, int | None], None],
) -> Downloaded:
    try:
        downloaded = await download(
            located.url,
            file,
            proxy_url=proxy_url,
            settings=settings,
            trusted=trusted_server(settings),
            progress=progress,
        )
    except Failure as failure:
        if located.local and failure.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST:
            raise not_configured(
                "telegram_api_url",
                "The Bot API server runs with --local and found the file, but no web server serves "
                "it at /file/bot<token>/. docs/sources.md says how to set that up.",
            ) from None
        _forget_causes(failure)
        raise
    assert downloaded is not None  # the request had no condition
    if located.size_bytes not in (None, downloaded.size_bytes):
        raise Failure(
            reason_pb2.REASON_TRUNCATED,
            f"Telegram announced {located.size_bytes} bytes and sent {downloaded.size_bytes}.",
        )
    # The ETag is that of the Bot API's copy, which is not the file at Telegram.
    return replace(downloaded, final_url=shown_url, http_etag="", http_last_modified="")


async def _call_api(url: str, proxy_url: str, settings: Settings) -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON object of a response; empty if it is not an object."""
    async with (
        Fetcher(settings, proxy_url, trusted=trusted_server(settings)) as fetcher,
        fetcher.get(url, {"Accept": "application/json"}) as (_, response),
    ):
        body = await fetcher.read_body(response, at_most=_RESPONSE_BYTES + 1)
        if len(body) > _RESPONSE_BYTES:
            raise _unusable(settings, "sends a response that is too long")
        status = response.status
    try:
        parsed = parse_json(body)
    except ValueError:
        parsed = None
    return status, parsed if isinstance(parsed, dict) else {}


def _refusal(status: int, response: dict[str, Any], settings: Settings) -> Failure:
    """Return the failure for a response of the Bot API (core.telegram.org/bots/api, errors)."""
    said = str(response.get("description", ""))
    lower = said.lower()
    code = response.get("error_code", status)
    if code == 429:
        wait = timedelta(seconds=_retry_after(response))
        return Failure(
            reason_pb2.REASON_RATE_LIMITED,
            f"Telegram tells the bot to wait for {wait.total_seconds():g} s.",
            metadata={"http_status": "429"},
            retry_after=wait,
        )
    if code in {401, 404} or "logged out" in lower:
        return not_configured(
            "telegram_bot_token",
            "The Bot API does not know the bot. Set INGOT_TELEGRAM_BOT_TOKEN to the token that "
            "@BotFather gave, for the server that INGOT_TELEGRAM_API_URL names.",
        )
    if code == 400 and "too big" in lower:
        return too_large_for_source(
            f"The Bot API offers no file of more than {PUBLIC_LIMIT} bytes. Run a Bot API server "
            "of your own with --local and name it in INGOT_TELEGRAM_API_URL, or ingest the post "
            "by its link.",
            PUBLIC_LIMIT,
        )
    if code == 400 and ("file_id" in lower or "file identifier" in lower):
        return Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
            "Telegram has no such file for this bot. A file_id is valid for one bot only.",
        )
    if code == 403:
        return Failure(
            reason_pb2.REASON_PRIVATE, "Telegram no longer gives the bot access to the file."
        )
    shown = _redacted(said, settings)[:200] or f"the status {status}"
    return Failure(
        reason_pb2.REASON_SOURCE_FAILED,
        f"The Bot API returned {shown}.",
        metadata={"http_status": str(status)},
    )


def _retry_after(response: dict[str, Any]) -> int:
    parameters = response.get("parameters")
    wait = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return min(max(wait, 1), 86400) if isinstance(wait, int) else 1


def _served(path: str, token: str, settings: Settings) -> str:
    """Return the file's path below /file/bot<token>/. No local path is ever opened.

    A server that runs with `--local` returns `<its directory>/<token>/<path>`.
    """
    served = path
    if path.startswith("/"):
        _, _, served = path.partition(f"/{token}/")
    if not served or any(one in {"", ".", ".."} for one in served.split("/")):
        raise _unusable(settings, "names a path that cannot be served")
    return served


def _base(settings: Settings) -> str:
    """Return the canonical form of `telegram_api_url`, without a slash at the end."""
    try:
        base = normalise(settings.telegram_api_url)
    except Failure:
        base = None
    if base is None or "?" in base:
        raise not_configured(
            "telegram_api_url",
            "INGOT_TELEGRAM_API_URL is not the URL of a Bot API server. Write it as "
            "http://HOST:PORT, or leave it out.",
        )
    return base.rstrip("/")


def _token(settings: Settings) -> str:
    token = settings.telegram_bot_token
    if not token:
        raise not_configured(
            "telegram_bot_token",
            "Files of a Telegram bot need its token. Set INGOT_TELEGRAM_BOT_TOKEN to the one that "
            "@BotFather gave.",
        )
    if not _TOKEN.fullmatch(token):
        raise not_configured(
            "telegram_bot_token",
            "INGOT_TELEGRAM_BOT_TOKEN is not a token. It looks like 123456:ABC-DEF, without `bot`.",
        )
    return str(token)


def _redacted(text: str, settings: Settings) -> str:
    """Return `text`, which a server wrote, without the token."""
    return text.replace(settings.telegram_bot_token, "***")


def _unusable(settings: Settings, what: str) -> Failure:
    host = urlsplit(_base(settings)).hostname or ""
    return Failure(reason_pb2.REASON_SOURCE_FAILED, f"The Bot API at {host} {what}.")


def _forget_causes(failure: Failure) -> None:
    """Remove the causes of `failure`, because exceptions of aiohttp contain the whole URL."""
    failure.__cause__ = failure.__context__ = None
