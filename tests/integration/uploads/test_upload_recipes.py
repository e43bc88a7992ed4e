"""Uploads that are converted: an ingest with conversions, as for a URL."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import IngestOptions
from tests.conversions import MP3, WAV
from tests.integration.uploads.browser import put
from tests.integration.uploads.upload_servers import UploadServers, clip
from tests.media import media
from tests.recipes import make_recipe

pytestmark = pytest.mark.any_stores


async def test_an_upload_with_a_recipe_makes_an_mp3(servers: UploadServers) -> None:
    content = clip()
    begun = await servers.link(content, filename="talk.mp4", recipes=[MP3])
    assert await put(begun.url, content) == 200
    job = await servers.complete(begun.upload_id, labels={"team": "a"})
    assert job.kind == job_pb2.JOB_KIND_INGEST_AND_CONVERT
    assert job.display_name == "talk.mp4"

    ended = await servers.finished(job)
    assert ended.state == job_pb2.JOB_STATE_SUCCEEDED, ended
    assert await servers.content(ended.media) == content
    assert (ended.media.title, ended.display_name) == ("talk", "talk.mp4")
    [mp3] = ended.conversions
    assert mp3.derived_from_media_id == ended.media.id
    assert mp3.audio[0].codec == "mp3"
    assert ended.media.labels == mp3.labels == {"team": "a"}
    assert await servers.complete(begun.upload_id) == ended
    assert not await servers.left()


async def test_content_that_is_stored_is_converted_to_what_is_missing(
    servers: UploadServers,
) -> None:
    content = clip()
    sha256 = hashlib.sha256(content).hexdigest()
    first = await servers.send(content, recipes=[WAV], upload_id="one")
    assert first.kind == job_pb2.JOB_KIND_INGEST_AND_CONVERT
    stored = await servers.finished(first)
    assert [each.audio[0].codec for each in stored.conversions] == ["pcm_s16le"]

    again = await servers.finished(await servers.send(content, sha256=sha256, recipes=[WAV]))
    assert again.conversions == stored.conversions
    more = await servers.finished(await servers.send(content, recipes=[WAV, MP3]))
    assert len(more.conversions) == 2
    assert more.media == stored.media


async def test_a_recipe_or_an_option_that_does_not_fit_is_refused(servers: UploadServers) -> None:
    content = media("variable.mp3").read_bytes()
    ended = await servers.finished(await servers.send(content, recipes=[WAV, make_recipe("mp4")]))
    assert ended.state == job_pb2.JOB_STATE_FAILED
    for options in (
        IngestOptions(playlist=True),
        IngestOptions(max_entries=1),
        IngestOptions(record_duration={"seconds": 5}),  # type: ignore[arg-type]
        IngestOptions(subtitle_languages=["en"]),
        IngestOptions(automatic_subtitles=True),
        IngestOptions(thumbnail=True),
    ):
        [name] = [descriptor.name for descriptor, _ in options.ListFields()]
        found = await servers.refused(content, options=options)
        assert found.reason == "INVALID_REQUEST"
        assert found.fields == {f"header.options.{name}"}


async def test_an_upload_whose_job_has_ended_returns_it_until_the_media_is_deleted(
    servers: UploadServers,
) -> None:
    content = clip()
    ended = await servers.ended(await servers.send(content, upload_id="one"))
    assert await servers.send(b"", upload_id="one") == ended
    other = await servers.refused(b"", upload_id="one", size_bytes=len(content) + 1)
    assert other.fields == {"header.size_bytes"}
    sent: dict[str, Any] = {"upload_id": "two", "request_id": "once", "labels": {"a": "b"}}
    named = await servers.send(clip(seed=2), **sent)
    assert (await servers.send(b"", **sent)).id == named.id
    assert (await servers.refused(b"", request_id="once")).reason == "REQUEST_ID_REUSED"

    await servers.delete(ended.media.id)
    again = await servers.send(content, upload_id="one")
    assert again.id != ended.id
    assert await servers.content((await servers.ended(again)).media) == content
