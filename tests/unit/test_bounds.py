"""Whatever a source says about a media item, it can be read."""

from __future__ import annotations

import pytest
from google.protobuf import json_format

from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.library.bounds import LARGEST_MANIFEST, LARGEST_MEDIA, bound, shortened

LIST_BYTES = 3 << 20
# Characters that take one to four bytes, and one that JSON writes as six.
CHARACTERS = ("a", "é", "語", "😀", "\x01")


def hostile(character: str) -> Media:
    """A media item as large as a page and a file can make it."""
    text = character * 100_000
    media = Media(id="a" * 52, url="http://example.com/", title=text, description=text * 10)
    media.uploader = text
    media.thumbnail_url = f"http://example.com/{'x' * 100_000}"
    media.source.page_url = media.thumbnail_url
    media.tags.extend([text[:4000]] * 1000)
    for number in range(1000):
        chapter = media.chapters.add(title=text[:4000])
        chapter.start_offset.FromSeconds(number)
        chapter.end_offset.FromSeconds(number + 1)
    media.file_tags.update({f"{number}" * 40: text[:4096] for number in range(100, 228)})
    for number in range(128):
        media.audio.add(url=f"s3://bucket/media/{media.id}/1.mp4", index=number, language=text)
    media.labels.update({f"{number}" + "k" * 60: character * 255 for number in range(100, 164)})
    return media


@pytest.mark.parametrize("character", CHARACTERS, ids=ascii)
def test_a_hostile_description_stays_below_the_bound(character: str) -> None:
    media = hostile(character)

    bound(media)

    assert len(json_format.MessageToJson(media, ensure_ascii=False).encode()) < LARGEST_MANIFEST
    assert Job(media=media, conversions=[media] * 16).ByteSize() < LIST_BYTES
    assert media.title.endswith("…")
    assert media.description.endswith("…")
    assert media.chapters
    assert list(media.truncated_fields) == [
        *("chapters", "description", "file_tags", "source.page_url", "tags", "thumbnail_url"),
        *("title", "uploader"),
    ]


def test_what_is_within_the_bounds_is_left_as_it_is() -> None:
    media = Media(title="A Bell", description="é" * 20_000, tags=["bells"] * 100)
    media.file_tags["artist"] = "Ingot"
    media.chapters.add(title="Ding")
    before = Media()
    before.CopyFrom(media)

    bound(media)

    assert media == before
    assert LARGEST_MEDIA < LARGEST_MANIFEST


@pytest.mark.parametrize("character", CHARACTERS, ids=ascii)
def test_a_text_is_cut_between_two_characters(character: str) -> None:
    for largest in range(3, 12):
        short = shortened(character * 100, largest)
        assert len(short.encode()) <= largest
        assert set(short) <= {character, "…"}
        assert short.endswith("…")
