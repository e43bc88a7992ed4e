"""Podcast feeds as text: what is in them, in which order, and that any text of a source fits."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree as ET

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import EVERY_SCOPE
from ingot_server.api.podcast import MOST_ITEMS, episodes, render
from ingot_server.config import Settings
from ingot_server.errors import Failure

ADDRESS = "https://ingot.example.com/feeds/token"
ITUNES = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"


def media(media_id: str, day: int = 1, content_type: str = "audio/mpeg", **fields: str) -> Media:
    item = Media(id=media_id, **fields)  # type: ignore[arg-type]
    item.blob.content_type, item.blob.size_bytes = content_type, 1234
    item.create_time.FromDatetime(datetime(2026, 11, day, tzinfo=UTC))
    return item


def rendered(*items: Media, title: str = "Bells") -> ET.Element:
    text = render(title, ADDRESS, items, lambda each: f"{ADDRESS}/{each.id}.mp3?a=1&b=2")
    return ET.fromstring(text)


def test_an_episode_has_what_players_show() -> None:
    item = media("m1", title="On <Bells> & more", uploader="A", description="How.")
    item.publish_time.FromDatetime(datetime(2026, 10, 5, 12, 30, tzinfo=UTC))
    item.duration.FromSeconds(61)
    item.url = "https://example.com/1"
    item.thumbnail_url = "https://example.com/1.jpg"
    found = rendered(item).find("channel/item")
    assert found is not None
    enclosure = found.find("enclosure")
    assert enclosure is not None
    assert enclosure.attrib == {
        "url": f"{ADDRESS}/m1.mp3?a=1&b=2",
        "length": "1234",
        "type": "audio/mpeg",
    }
    assert found.findtext("title") == "On <Bells> & more"
    assert found.findtext("guid") == "m1"
    assert found.findtext("link") == "https://example.com/1"
    assert found.findtext(f"{ITUNES}duration") == "61"
    moment = parsedate_to_datetime(str(found.findtext("pubDate")))
    assert moment == datetime(2026, 10, 5, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["a\0b", "\x0b", "]]>", "\ufffe", "\N{BELL}", "'\"<&>", "x" * 9999]
)
def test_any_text_of_a_source_fits(text: str) -> None:
    item = media("m1", title=text, description=text, uploader=text)
    assert len(rendered(item, title=text).findall("channel/item")) == 1


def test_a_feed_without_episodes_is_a_feed() -> None:
    channel = rendered().find("channel")
    assert channel is not None
    assert channel.findtext("title") == "Bells"
    assert channel.findtext(f"{ITUNES}block") == "Yes"


def test_equal_content_has_equal_bytes() -> None:
    item = media("m1")
    assert ET.tostring(rendered(item)) == ET.tostring(rendered(item))


def test_episodes_are_audio_and_video_and_the_latest_first() -> None:
    parent = media("parent", 3, "video/mp4")
    made = media("made", 4, derived_from_media_id="parent")
    other = media("other", 9, "video/mp4")
    picture = media("picture", 8, "image/png", derived_from_media_id="other")
    found = episodes([parent, made, other, picture, other])
    assert [each.id for each in found] == ["other", "made"]
    assert len(episodes([media(f"m{number}") for number in range(300)])) == MOST_ITEMS


def test_an_owner_without_a_valid_token_has_nothing() -> None:
    digest = "ab" * 32
    entry = f'[[token]]\nname = "a"\nsha256 = "{digest}"\nscopes = ["read"]\n'
    known = Authentication(Settings(tokens=entry))
    assert known.owner("a", "unix:", EVERY_SCOPE).scopes != EVERY_SCOPE
    with pytest.raises(Failure) as refused:
        known.owner("b", "unix:", EVERY_SCOPE)
    assert refused.value.reason == reason_pb2.REASON_TOKEN_INVALID
    assert Authentication(Settings()).owner("", "unix:", EVERY_SCOPE).scopes == EVERY_SCOPE
