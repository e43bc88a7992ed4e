"""Albums of Telegram: media posted together, each of them a post of its own.

a public one, of which its page tells (posts.py) -> its posts become jobs
a private one, of which an account is told       -> the same
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from ingot_server.pipeline.attempt import Attempt, AttemptResult, Expanded, NotAList, Stored
from ingot_server.pipeline.extract import adopt
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.sources import pick
from ingot_server.sources.source import Identity
from ingot_server.sources.telegram import message_of
from ingot_server.telegram import mtproto


@dataclass(frozen=True, slots=True)
class Album:
    """What was posted together with a post, itself included."""

    links: Sequence[str]
    """To the posts that have a video or a sound, each alone."""
    title: str


async def bring_album(
    context: WorkerContext,
    attempt: Attempt,
    album: Album,
    bring: Callable[[Attempt], Awaitable[AttemptResult]],
) -> AttemptResult:
    """Has the posts of an album brought in by jobs of their own; then None.

    An album of one is the post itself, which `bring` brings in.
    """
    if len(album.links) > 1:
        await context.playlists.ingest_entries(
            album.links, attempt.job, attempt.lease, title=album.title
        )
        return Expanded()
    if attempt.lists_only:
        return NotAList()
    post = pick(attempt.identity.url)[1]
    known = await adopt(context, attempt, post)
    return known if known is not None else await bring(replace(attempt, identity=post))


async def bring_file(
    context: WorkerContext, attempt: Attempt, receive: Callable[[Attempt], Awaitable[Stored]]
) -> AttemptResult:
    """Brings in a bot's file, a private post, or the posts of its album; then None.

    Raises Failure as `receive` does.
    """
    post = pick(attempt.identity.url)[1]
    if post.key == attempt.identity.key:
        return NotAList() if attempt.lists_only else await receive(attempt)
    return await bring_album(context, attempt, await _private(context, attempt, post), receive)


async def _private(context: WorkerContext, attempt: Attempt, post: Identity) -> Album:
    upstream = context.throttle.proxy_for(attempt.source.name)
    egress_grant = context.egress.grant(attempt.job.id, upstream=upstream)
    channel, number = message_of(post)
    try:
        title, numbers = await mtproto.posted_together(
            channel, number, proxy_url=egress_grant.proxy_url, settings=context.settings
        )
    finally:
        egress_grant.revoke()
    place = post.url.rpartition("/")[0]
    links = [f"{place}/{each}?single" for each in numbers]
    return Album(links, f"{title} {number}".strip())
