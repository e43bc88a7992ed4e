"""A podcast feed as text: RSS 2.0 with the tags of iTunes. No I/O.

https://www.rssboard.org/rss-specification, https://help.apple.com/itc/podcasts_connect/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final
from xml.etree import ElementTree as ET

from ingot.v1.media_pb2 import Media

MOST_ITEMS: Final = 100
_ITUNES: Final = "http://www.itunes.com/dtds/podcast-1.0.dtd"
_ATOM: Final = "http://www.w3.org/2005/Atom"
_DESCRIPTION_CHARACTERS: Final = 4000
# What XML 1.0 cannot have, even when it is escaped.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

ET.register_namespace("itunes", _ITUNES)
ET.register_namespace("atom", _ATOM)


def episodes(found: Sequence[Media]) -> Sequence[Media]:
    """Return what is an episode of a podcast: audio and video, the latest first.

    A media item whose conversion is one, too, is left out.
    """
    playable = [each for each in found if each.blob.content_type.startswith(("audio/", "video/"))]
    converted = {each.derived_from_media_id for each in playable}
    left = {each.id: each for each in playable if each.id not in converted}
    return sorted(left.values(), key=published, reverse=True)[:MOST_ITEMS]


def published(media: Media) -> datetime:
    """Return when a media item was published, or stored if that is not known."""
    moment = media.publish_time if media.HasField("publish_time") else media.create_time
    return moment.ToDatetime(UTC)


def render(
    title: str, address: str, items: Sequence[Media], link_of: Callable[[Media], str]
) -> bytes:
    """Return the feed at `address` with these items, as UTF-8.

    `link_of` returns the URL of an item's file. Equal arguments give equal bytes.
    """
    rss = ET.Element("rss", version="2.0")
    channel = ET.SubElement(rss, "channel")
    _add(channel, "title", title)
    _add(channel, "link", address.rpartition("/feeds/")[0] + "/")
    _add(channel, "description", f"{title}, stored by Ingot.")
    ET.SubElement(channel, f"{{{_ATOM}}}link", href=address, rel="self", type="application/rss+xml")
    # It is private: directories of podcasts must not list it.
    _add(channel, f"{{{_ITUNES}}}block", "Yes")
    if items:
        _add(channel, "lastBuildDate", format_datetime(published(items[0]), usegmt=True))
        _add_image(channel, items[0])
    for each in items:
        _add_item(channel, each, link_of(each))
    return bytes(ET.tostring(rss, encoding="utf-8", xml_declaration=True))


def _add_item(channel: ET.Element, media: Media, link: str) -> None:
    item = ET.SubElement(channel, "item")
    _add(item, "title", media.title or media.id)
    guid = ET.SubElement(item, "guid", isPermaLink="false")
    guid.text = media.id
    _add(item, "pubDate", format_datetime(published(media), usegmt=True))
    if media.description:
        _add(item, "description", media.description[:_DESCRIPTION_CHARACTERS])
    page = media.source.page_url or media.url
    if page.startswith(("http://", "https://")):
        _add(item, "link", page)
    if media.uploader:
        _add(item, f"{{{_ITUNES}}}author", media.uploader)
    if media.HasField("duration"):
        _add(
            item, f"{{{_ITUNES}}}duration", str(round(media.duration.ToTimedelta().total_seconds()))
        )
    _add_image(item, media)
    ET.SubElement(
        item,
        "enclosure",
        url=link,
        length=str(media.blob.size_bytes),
        type=media.blob.content_type,
    )


def _add_image(parent: ET.Element, media: Media) -> None:
    if media.thumbnail_url.startswith(("http://", "https://")):
        ET.SubElement(parent, f"{{{_ITUNES}}}image", href=_legal(media.thumbnail_url))


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = _legal(text)


def _legal(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
