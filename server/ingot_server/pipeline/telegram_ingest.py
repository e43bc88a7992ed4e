"""The posts, files and albums of Telegram.

a public post    by yt-dlp -> nothing found? its page says why
-> withheld, and an account is configured: by MTProto
a private post   by MTProto; a bot's file by the Bot API
an album         its posts become jobs; an album of one is that post
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.catalog import Catalog
from ingot_server.pipeline.attempt import Attempt, AttemptResult, Expanded, NotAList
from ingot_server.pipeline.extract import ExtractorFetcher
from ingot_server.pipeline.fetch_file import FileFetcher
from ingot_server.pipeline.identification import take_identity
from ingot_server.pipeline.job_egress import JobEgress
from ingot_server.pipeline.playlist import Playlists
from ingot_server.sources import pick
from ingot_server.sources.source import Identity
from ingot_server.sources.telegram import message_of
from ingot_server.telegram import mtproto
from ingot_server.telegram.post_page import PostPage, read_post_page

_NOTHING_FOUND: Final = frozenset({reason_pb2.REASON_UNSUPPORTED_URL, reason_pb2.REASON_NOT_MEDIA})

_Fetch: TypeAlias = Callable[[Attempt], Awaitable[AttemptResult]]


@dataclass(frozen=True, slots=True)
class _Album:
    """What was posted together with a post, the post included."""

    links: Sequence[str]
    """Links to the posts that have video or audio, each without its album."""
    title: str


class TelegramFetcher:
    """Fetches posts and files of Telegram, and expands albums."""

    def __init__(
        self,
        extractor: ExtractorFetcher,
        files: FileFetcher,
        playlists: Playlists,
        egress: JobEgress,
        catalog: Catalog,
        settings: Settings,
    ) -> None:
        self._extractor = extractor
        self._files = files
        self._playlists = playlists
        self._egress = egress
        self._catalog = catalog
        self._settings = settings

    async def fetch_post(self, attempt: Attempt) -> AttemptResult:
        """Ingest a public post, or expand its album. Raises Failure with the reason why not."""
        if _names_post(attempt):
            return NotAList() if attempt.lists_only else await self._fetch_public(attempt)
        page = await self._read_page(attempt)
        return await self._expand(attempt, _Album(page.videos, page.title), self._fetch_public)

    async def fetch_file(self, attempt: Attempt) -> AttemptResult:
        """Ingest a bot's file or a private post, or expand the album of a private post.

        Raises Failure with the reason why not.
        """
        if _names_post(attempt):
            if attempt.lists_only:
                return NotAList()
            return await self._files.fetch_telegram(attempt)
        album = await self._read_private_album(attempt, pick(attempt.identity.url)[1])
        return await self._expand(attempt, album, self._files.fetch_telegram)

    async def _expand(self, attempt: Attempt, album: _Album, fetch: _Fetch) -> AttemptResult:
        if len(album.links) > 1:
            await self._playlists.ingest_entries(
                album.links, attempt.job, attempt.lease, title=album.title
            )
            return Expanded()
        if attempt.lists_only:
            return NotAList()
        post = pick(attempt.identity.url)[1]
        known = await take_identity(self._catalog, attempt, post)
        return known if known is not None else await fetch(replace(attempt, identity=post))

    async def _fetch_public(self, attempt: Attempt) -> AttemptResult:
        try:
            return await self._extractor.fetch(attempt)
        except Failure as failure:
            if failure.reason not in _NOTHING_FOUND:
                raise
            finding = (await self._read_page(attempt)).finding()
            if finding is None:
                raise
            if not finding.withheld or not mtproto.configured(self._settings):
                raise finding.failure from failure
        return await self._files.fetch_telegram(attempt)

    async def _read_page(self, attempt: Attempt) -> PostPage:
        async with self._egress.granted(attempt) as proxy_url:
            return await read_post_page(attempt.identity.url, proxy_url, self._settings)

    async def _read_private_album(self, attempt: Attempt, post: Identity) -> _Album:
        channel, number = message_of(post)
        async with self._egress.granted(attempt) as proxy_url:
            title, numbers = await mtproto.posted_together(
                channel, number, proxy_url=proxy_url, settings=self._settings
            )
        place = post.url.rpartition("/")[0]
        links = [f"{place}/{each}?single" for each in numbers]
        return _Album(links, f"{title} {number}".strip())


def _names_post(attempt: Attempt) -> bool:
    """Return whether the job is about one post or file, not about an album."""
    return pick(attempt.identity.url)[1].key == attempt.identity.key
