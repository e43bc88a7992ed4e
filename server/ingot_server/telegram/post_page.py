"""Telegram's public page of a post: why it has no video, and what is in its album.

    https://t.me/<channel>/<number>?embed=1     the page, Telegram's widget; yt-dlp reads it too

The page has a box in place of a post that does not exist, and a player without a file for a video
that is too large for it, which yt-dlp leaves out of albums. The texts are from November 2026, found
in programs that read such pages.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large_for_source
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
# What a page names and does not contain: media for the apps only, voice messages, files.
_UNSHOWN: Final = re.compile(
    r'class="(?:message_media_not_supported_label|tgme_widget_message_(?:voice|document))'
)
_ACCOUNT: Final = (
    "An account can receive it: set INGOT_TELEGRAM_API_ID, INGOT_TELEGRAM_API_HASH and "
    "INGOT_TELEGRAM_SESSION; docs/sources.md says how to get them."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a page has no video of its post."""

    failure: Failure
    withheld: bool = False
    """There is media, which an account may still receive."""


@dataclass(frozen=True, slots=True)
class PostPage:
    """Telegram's page of the post at `url`."""

    url: str
    text: str

    @property
    def title(self) -> str:
        """The channel's name and the number of the post."""
        author = _AUTHOR.search(self.text)
        return f"{_words(author[1]) if author else ''} {self._number}".strip()

    @property
    def videos(self) -> list[str]:
        """Links to the posts of its album that have a video, each without its album."""
        channel = self.url.rpartition("/")[0]
        return [f"{channel}/{number}?single" for number in self._players() if number]

    def finding(self) -> Finding | None:
        """Return why the post itself has no video, or None if the page does not say."""
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


def _refusal(said: str) -> Failure:
    if "not found" in said.lower():
        return Failure(
            reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, f"Telegram says: {said}. Check the link."
        )
    return Failure(reason_pb2.REASON_PRIVATE, f"Telegram does not show the post: {said}.")


def _too_big() -> Failure:
    return too_large_for_source(f"The video is too large for Telegram's public page. {_ACCOUNT}")


def _unshown() -> Failure:
    return Failure(
        reason_pb2.REASON_PRIVATE,
        f"Telegram's public page does not show the content of the post. {_ACCOUNT}",
    )


def _words(markup: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", markup)).split())


async def read_post_page(url: str, proxy_url: str, settings: Settings) -> PostPage:
    """Fetch the page of the post at `url`. Raises Failure RATE_LIMITED, SOURCE_FAILED."""
    return PostPage(url, await _read(f"{url}?embed=1", proxy_url, settings))


async def _read(url: str, proxy_url: str, settings: Settings) -> str:
    async with (
        Fetcher(settings, proxy_url) as fetcher,
        fetcher.get(url, {"Accept": "text/html"}) as (_, response),
    ):
        if response.status != 200:
            limited = response.status == 429
            raise Failure(
                reason_pb2.REASON_RATE_LIMITED if limited else reason_pb2.REASON_SOURCE_FAILED,
                f"{_HOST} returned the status {response.status}.",
                metadata={"http_status": str(response.status)},
            )
        body = await fetcher.read_body(response, at_most=_PAGE_BYTES)
    return body.decode(errors="replace")
