"""Albums of Telegram: media posted together, each of them a post of its own.

a public one, of which its page tells (posts.py) -> its posts become jobs
a private one, of which an account is told       -> the same
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from ingot_server.pipeline.extract import adopt
from ingot_server.pipeline.resources import Resources
from ingot_server.pipeline.telegram import mtproto
from ingot_server.pipeline.work import Ingested, OneMedia, Outcome, Work
from ingot_server.sources import pick
from ingot_server.sources.source import Identity
from ingot_server.sources.telegram import message_of


@dataclass(frozen=True, slots=True)
class Album:
    """What was posted together with a post, itself included."""

    links: Sequence[str]
    """To the posts that have a video or a sound, each alone."""
    title: str


async def bring_album(
    resources: Resources,
    work: Work,
    album: Album,
    bring: Callable[[Work], Awaitable[Outcome]],
) -> Outcome:
    """Has the posts of an album brought in by jobs of their own; then None.

    An album of one is the post itself, which `bring` brings in.
    """
    if len(album.links) > 1:
        await resources.playlists.ingest_entries(
            album.links, work.job, work.lease, title=album.title
        )
        return None
    if work.lists_only:
        return OneMedia()
    post = pick(work.identity.url)[1]
    known = await adopt(resources, work, post)
    return known if known is not None else await bring(replace(work, identity=post))


async def bring_file(
    resources: Resources, work: Work, receive: Callable[[Work], Awaitable[Ingested]]
) -> Outcome:
    """Brings in a bot's file, a private post, or the posts of its album; then None.

    Raises Failure as `receive` does.
    """
    post = pick(work.identity.url)[1]
    if post.key == work.identity.key:
        return await receive(work)
    return await bring_album(resources, work, await _private(resources, work, post), receive)


async def _private(resources: Resources, work: Work, post: Identity) -> Album:
    upstream = resources.care.proxy_for(work.source.name)
    egress_pass = resources.egress.issue(work.job.id, upstream=upstream)
    channel, number = message_of(post)
    try:
        title, numbers = await mtproto.posted_together(
            channel, number, proxy_url=egress_pass.proxy_url, settings=resources.settings
        )
    finally:
        egress_pass.revoke()
    place = post.url.rpartition("/")[0]
    links = [f"{place}/{each}?single" for each in numbers]
    return Album(links, f"{title} {number}".strip())
