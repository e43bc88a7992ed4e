"""Live HLS streams, recorded through the real guard from a real web server that moves a window."""

from __future__ import annotations

import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.result import Fetched, Resolved
from ingot_server.extractor.session import Session
from ingot_server.probe.prober import Prober
from tests.broadcast import Broadcast, broadcasting, encoded

pytestmark = pytest.mark.slow

BEST = Selection(mode=Selection.MODE_BEST)
AUDIO = Selection(mode=Selection.MODE_AUDIO_ONLY)


@pytest.fixture
def settings() -> Settings:
    return Settings(egress_allow_loopback=True, stall_timeout=timedelta(seconds=8))


class RecordingHarness:
    """The guard and the extractor, for one recording after another."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.directory = directory
        self.extractor = ExtractorPool(settings)
        self.proxy = EgressProxy(settings)
        self.progress: list[tuple[int, int | None]] = []

    @asynccontextmanager
    async def session(
        self, url: str, seconds: int, selection: Selection = BEST
    ) -> AsyncIterator[Session]:
        options = IngestOptions()
        if seconds:
            options.record_duration.FromSeconds(seconds)
        egress = self.proxy.grant("job")
        try:
            async with self.extractor.session(
                url,
                selection=selection,
                options=options,
                proxy_url=egress.proxy_url,
                directory=self.directory,
            ) as session:
                yield session
        finally:
            egress.revoke()

    async def record(self, url: str, seconds: int, selection: Selection = BEST) -> Media:
        async with self.session(url, seconds, selection) as session:
            found = await session.resolve()
            assert isinstance(found, Resolved)
            assert found.is_live
            fetched = await session.fetch(
                self.directory, lambda done, total: self.progress.append((done, total))
            )
        return await self.probe(fetched)

    async def probe(self, fetched: Fetched) -> Media:
        assert [path.name for path in self.directory.iterdir()] == [fetched.path.name]
        return await Prober(self.settings).probe(fetched.path)


@pytest.fixture
async def harness(settings: Settings, tmp_path: Path) -> AsyncIterator[RecordingHarness]:
    directory = tmp_path / "files"
    directory.mkdir()
    harness = RecordingHarness(settings, directory)
    await harness.proxy.start()
    await harness.extractor.start()
    yield harness
    await harness.extractor.close()
    await harness.proxy.close()


def length(media: Media) -> float:
    return media.duration.ToTimedelta().total_seconds()


async def test_a_live_stream_is_refused_without_a_limit(
    harness: RecordingHarness, broadcast: Broadcast
) -> None:
    async with harness.session(broadcast.url, 0) as session:
        with pytest.raises(Failure) as caught:
            await session.resolve()
    assert caught.value.reason == reason_pb2.REASON_LIVE_STREAM
    assert "record_duration" in caught.value.message


async def test_it_is_recorded_up_to_the_limit(
    harness: RecordingHarness, broadcast: Broadcast
) -> None:
    media = await harness.record(broadcast.url, 6)

    assert length(media) == pytest.approx(6, abs=0.3)
    assert (media.video[0].codec, media.audio[0].codec) == ("h264", "aac")
    taken = [name for name in broadcast.asked if name.endswith(".ts")]
    assert len(taken) == len(set(taken)) == 6
    assert "both-0.ts" not in taken  # It begins near the live edge.
    totals = [total for _, total in harness.progress if total]
    assert totals[0] > harness.progress[0][0]


async def test_sound_alone_is_recorded(harness: RecordingHarness, broadcast: Broadcast) -> None:
    media = await harness.record(broadcast.url, 4, AUDIO)

    assert length(media) == pytest.approx(4, abs=0.3)
    assert (len(media.video), len(media.audio)) == (0, 1)


async def test_picture_and_sound_that_come_apart_are_put_together(
    harness: RecordingHarness, tmp_path: Path
) -> None:
    folder = tmp_path / "apart"
    folder.mkdir()
    async with broadcasting(*encoded(folder, apart=True)) as broadcast:
        media = await harness.record(broadcast.url, 4)

    assert length(media) == pytest.approx(4, abs=0.5)
    assert (len(media.video), len(media.audio)) == (1, 1)


async def test_a_stream_that_ends_is_all_there_is(
    harness: RecordingHarness, broadcast: Broadcast
) -> None:
    broadcast.ends_at = 9
    media = await harness.record(broadcast.url, 60)
    assert 3 <= length(media) <= 9.3


async def test_a_stream_that_stops_is_what_was_recorded(
    harness: RecordingHarness, broadcast: Broadcast
) -> None:
    broadcast.ends_at, broadcast.closes = 9, False
    media = await harness.record(broadcast.url, 60)
    assert 3 <= length(media) <= 9.3


async def test_a_stream_that_sends_nothing_is_stalled(
    harness: RecordingHarness, broadcast: Broadcast
) -> None:
    broadcast.files = {}
    with pytest.raises(Failure) as caught:
        await harness.record(broadcast.url, 60)
    assert caught.value.reason == reason_pb2.REASON_STALLED


async def test_a_segment_that_is_gone_is_left_out(
    harness: RecordingHarness, broadcast: Broadcast, segments: dict[str, bytes]
) -> None:
    broadcast.files = {name: data for name, data in segments.items() if name != "both-5.ts"}
    media = await harness.record(broadcast.url, 4)
    assert len(media.video) == 1
    assert "both-5.ts" in broadcast.asked


async def test_an_encrypted_stream_is_recorded(
    harness: RecordingHarness, broadcast: Broadcast, segments: dict[str, bytes]
) -> None:
    from Cryptodome.Cipher import AES
    from Cryptodome.Util.Padding import pad

    key, vector = b"0123456789abcdef", bytes(range(16))
    broadcast.files = {
        name: AES.new(key, AES.MODE_CBC, vector).encrypt(pad(data, 16))
        for name, data in segments.items()
    } | {"key": key}
    text = binascii.hexlify(vector).decode()
    broadcast.lines = f'#EXT-X-KEY:METHOD=AES-128,URI="key",IV=0x{text}\n'

    media = await harness.record(broadcast.url, 4)

    assert length(media) == pytest.approx(4, abs=0.3)


async def test_a_segment_that_leads_inside_is_refused(
    harness: RecordingHarness, broadcast: Broadcast
) -> None:
    broadcast.lines = '#EXT-X-MAP:URI="http://10.0.0.1/init.mp4"\n'
    with pytest.raises(Failure) as caught:
        await harness.record(broadcast.url, 4)
    assert caught.value.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
