"""The way of a public post of Telegram: by yt-dlp, and by its own page where yt-dlp finds nothing.

    an album? its page -> albums.py
    extract -> nothing found? its page -> withheld, and an account is configured: by MTProto
                                       -> the reason

    https://t.me/<channel>/<number>?embed=1     the page, Telegram's widget; yt-dlp reads the same

The page has a box in the place of a post that is not there, and a player without a file for a video
that is too big for it, which yt-dlp leaves out of albums. Its words were read in November 2026, in
programs that read such pages.
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.pipeline.albums import Album, bring_album
from ingot_server.pipeline.attempt import Attempt, AttemptResult, NotAList, Stored
from ingot_server.pipeline.extract import extract
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.sources import pick
from ingot_server.telegram import mtproto
from ingot_server.transfer.fetch import Fetcher

_HOST: Final = "t.me"
_PAGE_BYTES: Final = 1 << 20
_ERROR: Final = re.compile(r'class="tgme_widget_message_error"[^>]*>(.*?)</div>', re.DOTALL)
_AUTHOR: Final = re.compile(r'class="tgme_widget_message_author[ "].*?>(.*?)</div>', re.DOTALL)
_PLAYER: Final = re.compile(
    r'<a\s[^>]*class="tgme_widget_message_video_player[ "].*?</a>', re.DOTALL
)
_NUMBER: Final = re.compile(r'href="https?://t\.me/[^"?]*/(\d+)["?]')
_MESSAGE: Final = 'class="tgme_widget_message '
# What a page names and does not hold: media for the apps alone, sound, and files.
_UNSHOWN: Final = re.compile(
    r'class="(?:message_media_not_supported_label|tgme_widget_message_(?:voice|document))'
)
_ACCOUNT: Final = (
    "An account can receive it: set INGOT_TELEGRAM_API_ID, INGOT_TELEGRAM_API_HASH and "
    "INGOT_TELEGRAM_SESSION; docs/sources.md says how to get them."
)
_NOTHING_FOUND: Final = frozenset({reason_pb2.REASON_UNSUPPORTED_URL, reason_pb2.REASON_NOT_MEDIA})


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a page holds no video of its post."""

    failure: Failure
    withheld: bool = False
    """There is media, which an account may receive all the same."""


@dataclass(frozen=True, slots=True)
class PostPage:
    """Telegram's page of the post at `url`."""

    url: str
    text: str

    @property
    def title(self) -> str:
        """The channel's name and the post's number."""
        author = _AUTHOR.search(self.text)
        return f"{_words(author[1]) if author else ''} {self._number}".strip()

    @property
    def videos(self) -> list[str]:
        """Links to the posts of its album that have a video, each alone."""
        channel = self.url.rpartition("/")[0]
        return [f"{channel}/{number}?single" for number in self._players() if number]

    def finding(self) -> Finding | None:
        """Why there is no video of the post itself; None: the page tells no reason."""
        error = _ERROR.search(self.text)
        if error is not None:
            return Finding(_refusal(_words(error[1])[:200]))
        if _MESSAGE not in self.text:
            return None
        players = self._players()
        own = players.get(self._number)
        if own is not None:
            return None if "<video" in own else Finding(_too_big(), withheld=True)
        if _UNSHOWN.search(_PLAYER.sub("", self.text)):
            return Finding(_unshown(), withheld=True)
        others = ", ".join(link.partition("?")[0] for link in self.videos)
        hint = f" Others of its album have: {others}." if others else ""
        return Finding(Failure(reason_pb2.REASON_NOT_MEDIA, f"The post has no video.{hint}"))

    @property
    def _number(self) -> str:
        return self.url.rpartition("/")[2]

    def _players(self) -> dict[str, str]:
        found = {}
        for player in _PLAYER.findall(self.text):
            number = _NUMBER.search(player)
            found[number[1] if number else ""] = player
        return found


async def bring_post(
    context: WorkerContext, attempt: Attempt, receive: Callable[[Attempt], Awaitable[Stored]]
) -> AttemptResult:
    """Brings in the post that `work` names; None: an album, whose posts do it while the job waits.

    `receive` does it by MTProto. Raises Failure with the reason why not.
    """

    async def bring(attempt: Attempt) -> AttemptResult:
        return await _bring(context, attempt, receive)

    if pick(attempt.identity.url)[1].key == attempt.identity.key:
        return NotAList() if attempt.lists_only else await bring(attempt)
    page = await _page(context, attempt)
    return await bring_album(context, attempt, Album(page.videos, page.title), bring)


async def _bring(
    context: WorkerContext, attempt: Attempt, receive: Callable[[Attempt], Awaitable[Stored]]
) -> AttemptResult:
    try:
        return await extract(context, attempt)
    except Failure as failure:
        if failure.reason not in _NOTHING_FOUND:
            raise
        finding = (await _page(context, attempt)).finding()
        if finding is None:
            raise
        if not finding.withheld or not mtproto.configured(context.settings):
            raise finding.failure from failure
    return await receive(attempt)


def _refusal(said: str) -> Failure:
    if "not found" in said.lower():
        return Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, f"Telegram says: {said}. Check the link."
        )
    return Failure(reason_pb2.REASON_PRIVATE, f"Telegram does not show the post: {said}.")


def _too_big() -> Failure:
    return Failure(
        reason_pb2.REASON_FILE_TOO_LARGE,
        f"The video is too big for Telegram's public page. {_ACCOUNT}",
    )


def _unshown() -> Failure:
    return Failure(
        reason_pb2.REASON_PRIVATE,
        f"Telegram's public page does not show what the post holds. {_ACCOUNT}",
    )


def _words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


async def _page(context: WorkerContext, attempt: Attempt) -> PostPage:
    upstream = context.throttle.proxy_for(attempt.source.name)
    egress_grant = context.egress.grant(attempt.job.id, upstream=upstream)
    url = attempt.identity.url
    try:
        return PostPage(
            url, await _read(f"{url}?embed=1", egress_grant.proxy_url, context.settings)
        )
    finally:
        egress_grant.revoke()


async def _read(url: str, proxy_url: str, settings: Settings) -> str:
    async with (
        Fetcher(settings, proxy_url) as fetcher,
        fetcher.get(url, {"Accept": "text/html"}) as (_, response),
    ):
        if response.status != 200:
            limited = response.status == 429
            raise Failure(
                reason_pb2.REASON_RATE_LIMITED if limited else reason_pb2.REASON_SOURCE_FAILED,
                f"{_HOST} answered with the status {response.status}.",
                metadata={"http_status": str(response.status)},
            )
        body = await fetcher.read_body(response, at_most=_PAGE_BYTES)
    return body.decode(errors="replace")
