"""Podcast feeds over HTTP, for programs that send no credential: the address has one.

    GET /feeds/TOKEN                        the feed, as RSS
    GET /feeds/TOKEN/MEDIA_ID-MAC.EXTENSION  the file of an item: a redirect to a signed link

A feed has what its owner may see now, and nothing if the owner has no valid credential any more.
MAC is an HMAC of the media id with a key of the feed, so that the address of a feed does not open
what else its owner may see. Links to files work for as long as the feed does, although those that
they lead to expire. HEAD is answered here: a signed link is for GET alone.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    GetMediaRequest,
    GetMediaResponse,
    ListMediaRequest,
)
from ingot.v1.scope_pb2 import Scope
from ingot_server.api import call_head
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import CALLER, Caller
from ingot_server.api.connect_errors import refuse
from ingot_server.api.media_service import MediaService, filename
from ingot_server.api.plain_http import refuse_method, respond, say
from ingot_server.api.podcast import MOST_ITEMS, episodes, published, render
from ingot_server.api.status import unexpected
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.errors import Failure
from ingot_server.following.subscriptions import Subscriptions
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.feed_objects import FeedObjects, feed_id
from ingot_server.library.manifest_pb2 import StoredFeed
from ingot_server.library.recipes import canonical_recipes
from ingot_server.library.tenants import TENANT

PATH: Final = "/feeds/"
_LINK_LIFETIME: Final = timedelta(hours=12)
_MAC_DIGITS: Final = 32
_LISTED: Final = 3 * MOST_ITEMS
"""How many media items are looked at: some may be no episodes."""
_AT_ONCE: Final = 16


class FeedPages:
    """Serves the feeds. One object for each API server."""

    def __init__(
        self,
        media: MediaService,
        catalog: Catalog,
        blobs: Blobs,
        subscriptions: Subscriptions,
        authentication: Authentication,
    ) -> None:
        """`media` answers as for a call of the feed's owner."""
        self._media = media
        self._catalog = catalog
        self._feeds = FeedObjects(blobs)
        self._subscriptions = subscriptions
        self._authentication = authentication

    async def serve(self, scope: Any, send: Any) -> None:
        """Respond to a request whose path begins with PATH."""
        if scope["method"] not in {"GET", "HEAD"}:
            await refuse_method(send)
            return
        token, _, name = scope["path"].removeprefix(PATH).partition("/")
        try:
            await self._authentication.count(call_head.peer(scope))
            await self._serve(token, name, scope, send)
        except Failure as failure:
            if failure.transient:
                status = HTTPStatus.SERVICE_UNAVAILABLE
                if failure.treatment.is_quota:
                    status = HTTPStatus.TOO_MANY_REQUESTS
                wait = str(round(failure.retry_after.total_seconds()) or 1).encode()
                await refuse(send, status, failure, [(b"retry-after", wait)])
            else:
                # What the owner may not see, or no longer, is nothing for whoever has the address.
                await _not_found(send)
        except Exception as error:
            await refuse(send, HTTPStatus.INTERNAL_SERVER_ERROR, unexpected("GET /feeds", error))

    async def _serve(self, token: str, name: str, scope: Any, send: Any) -> None:
        stored = await self._feeds.read(feed_id(token))
        if stored is None:
            await _not_found(send)
            return
        owner = self._authentication.owner(stored.feed.owner, stored.peer, frozenset(stored.scopes))
        owner.require(Scope.SCOPE_READ)
        CALLER.set(owner)
        TENANT.set(owner.tenant)
        if name:
            await self._serve_file(stored, name, owner, scope, send)
        else:
            await self._serve_feed(stored, token, owner, scope, send)

    async def _serve_feed(
        self, stored: StoredFeed, token: str, owner: Caller, scope: Any, send: Any
    ) -> None:
        title, found = await self._content(stored, owner)
        items = episodes(found)
        address = f"{_origin(scope)}{PATH}{token}"

        def link_of(media: Media) -> str:
            extension = PurePosixPath(filename(media)).suffix
            return f"{address}/{media.id}-{_mac(stored, media.id)}{extension}"

        body = render(title, address, items, link_of)
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode()
        # Others share neither the address nor what it has.
        headers = [(b"etag", etag), (b"cache-control", b"private, max-age=300")]
        if items:
            changed = max(published(each) for each in items)
            headers.append((b"last-modified", format_datetime(changed, usegmt=True).encode()))
        if etag in _header(scope, b"if-none-match"):
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            kind = b"application/rss+xml; charset=utf-8"
            await respond(send, HTTPStatus.OK, body, kind, headers)

    async def _serve_file(
        self, stored: StoredFeed, name: str, owner: Caller, scope: Any, send: Any
    ) -> None:
        media_id, _, mac = PurePosixPath(name).stem.partition("-")
        if not hmac.compare_digest(mac.encode(), _mac(stored, media_id).encode()):
            await _not_found(send)
            return
        if scope["method"] == "HEAD":
            found = await self._media.get_media(GetMediaRequest(media_id=media_id), owner)
            if isinstance(found, bytes):
                found = GetMediaResponse.FromString(found)
            blob = found.media.blob
            headers = [
                (b"content-type", blob.content_type.encode()),
                (b"content-length", str(blob.size_bytes).encode()),
                (b"accept-ranges", b"bytes"),
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        request = CreateDownloadUrlRequest(media_id=media_id)
        request.lifetime.FromTimedelta(_LINK_LIFETIME)
        link = (await self._media.create_download_url(request, owner)).url
        headers = [(b"location", link.encode()), (b"cache-control", b"private, no-store")]
        await say(send, HTTPStatus.FOUND, "", headers)

    async def _content(self, stored: StoredFeed, owner: Caller) -> tuple[str, Sequence[Media]]:
        """Return the title of a feed, and the media items that may be in it."""
        feed = stored.feed
        if feed.subscription_id:
            title, media = await self._entries(feed.subscription_id, owner)
            return feed.title or title, media
        request = ListMediaRequest(labels=feed.labels, page_size=_LISTED)
        listed = await self._media.list_media(request, owner)
        labels = ", ".join(f"{key}={value}" for key, value in sorted(feed.labels.items()))
        return feed.title or labels, listed.media

    async def _entries(self, subscription_id: str, owner: Caller) -> tuple[str, Sequence[Media]]:
        """Return the title of a subscription, and what is stored of its latest entries."""
        followed = await self._subscriptions.read(subscription_id)
        if followed is None or not owner.may_see(followed.subscription.owner):
            raise Failure(reason_pb2.REASON_FEED_NOT_FOUND, "The subscription was deleted.")
        recipes = canonical_recipes(followed.subscription.recipes)

        async def stored_of(media_id: str) -> list[Media]:
            _, manifest = await self._catalog.find(media_id)
            if manifest is None or not owner.may_see(manifest.media.owner):
                return []
            made = [await self._catalog.conversion(manifest.media, each) for each in recipes]
            return [manifest.media, *(each.media for each in made if each is not None)]

        latest = followed.media_ids[::-1][:_LISTED]
        found: list[Media] = []
        for begin in range(0, len(latest), _AT_ONCE):
            chunk = latest[begin : begin + _AT_ONCE]
            for media in await gather_or_cancel(stored_of(each) for each in chunk):
                found += media
        subscription = followed.subscription
        return subscription.title or subscription.url, found


def _mac(stored: StoredFeed, media_id: str) -> str:
    """Return what shows that a link to a file was made by the feed."""
    digest = hmac.digest(stored.link_key, media_id.encode(), "sha256")
    return digest.hex()[:_MAC_DIGITS]


def _origin(scope: Any) -> str:
    """Return how the request has named this server; a proxy in front of it may have ended TLS."""
    encrypted = b"https" in (scope["scheme"].encode(), _header(scope, b"x-forwarded-proto"))
    host = _header(scope, b"host").decode("latin-1")
    return f"{'https' if encrypted else 'http'}://{host}"


def _header(scope: Any, name: bytes) -> bytes:
    return bytes(dict(scope["headers"]).get(name, b""))


async def _not_found(send: Any) -> None:
    await say(send, HTTPStatus.NOT_FOUND, "There is no such feed, or no such file in it.\n")
