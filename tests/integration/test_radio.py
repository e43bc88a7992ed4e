"""Radio over HTTP is a live stream: refused at once, or recorded for as long as was asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ResolveResponse
from ingot.v1.job_pb2 import IngestOptions
from ingot_server.config import Settings
from tests.harness import Harness, running_harness
from tests.integration.test_resolve import resolve
from tests.refusals import reason_name_of
from tests.station import ICECAST, SHOUTCAST, station

pytestmark = pytest.mark.any_stores


@pytest.mark.parametrize("head", [SHOUTCAST, ICECAST], ids=["SHOUTcast", "Icecast"])
async def test_radio_is_refused_at_once(harness: Harness, head: tuple[str, ...]) -> None:
    async with station("constant.mp3", head, "audio/mpeg") as url:
        job = await harness.ingest(url)
        resolved = await resolve(harness, url)

    assert (job.state, reason_name_of(job)) == (job_pb2.JOB_STATE_FAILED, "LIVE_STREAM")
    assert job.attempt == 1
    assert resolved.kind == ResolveResponse.KIND_LIVE
    await harness.assert_nothing_is_left()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head", "content_type", "stored_type"),
    [
        ("constant.mp3", SHOUTCAST, "audio/mpeg", "audio/mpeg"),
        ("raw.aac", ICECAST, "audio/aac", "audio/mp4"),
        ("vorbis.ogg", ICECAST, "application/ogg", "audio/ogg"),
    ],
)
async def test_radio_is_recorded_for_as_long_as_was_asked(
    harness: Harness, name: str, head: tuple[str, ...], content_type: str, stored_type: str
) -> None:
    options = IngestOptions(record_duration=Duration(seconds=1))
    async with station(name, head, content_type) as url:
        job = await harness.ingest(url, options=options)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job.error
    assert job.media.duration.ToMilliseconds() == pytest.approx(1000, abs=150)
    assert job.media.blob.content_type == stored_type
    assert [stream.codec for stream in job.media.audio]


@pytest.mark.slow
async def test_a_station_that_sends_nothing_has_stalled(settings: Settings) -> None:
    quick = settings.replace(attempts=1, stall_timeout=timedelta(seconds=1))
    options = IngestOptions(record_duration=Duration(seconds=1))
    async with (
        running_harness(quick) as harness,
        station("constant.mp3", SHOUTCAST, "audio/mpeg", silent=True) as url,
    ):
        job = await harness.ingest(url, options=options)

    assert (job.state, reason_name_of(job)) == (job_pb2.JOB_STATE_FAILED, "STALLED")
