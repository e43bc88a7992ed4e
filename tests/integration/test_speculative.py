"""Conversions that begin while their file still comes down: taken when right, else thrown away."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import imageio_ffmpeg
import pytest

from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.ffmpeg_run import EncodedFile, ignore_progress
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.slots import Slots
from ingot_server.transcode.speculative import HEAD_BYTES, Speculation, SpeculativeTranscoder
from ingot_server.transcode.tags import tags_for
from ingot_server.transcode.transcoder import Transcoded, Transcoder
from ingot_server.transfer.scratch import Scratch, ScratchFile
from tests.waiting import until

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

MP3 = canonical_recipe(Recipe(mp3=Recipe.Mp3()))
MEDIA_ID = "media"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Twice as much as is looked at before a conversion begins, its index first."""
    path = tmp_path_factory.mktemp("sound") / "noise.m4a"
    subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error"),
            *("-f", "lavfi", "-i", "anoisesrc=duration=150:sample_rate=44100:seed=5"),
            *("-c:a", "aac", "-b:a", "320k", "-movflags", "+faststart", str(path)),
        ],
        check=True,
    )
    content = path.read_bytes()
    assert len(content) > 2 * HEAD_BYTES
    return content


class SpeculativeHarness:
    def __init__(self, settings: Settings) -> None:
        self.scratch = Scratch(settings)
        self.prober = Prober(settings)
        self.transcoder = Transcoder(Ffmpeg(settings), self.prober, check=self.scratch.check_space)
        self.slots = Slots(1)
        self.speculative = SpeculativeTranscoder(
            self.transcoder, self.prober, self.slots, self.scratch, capacity=1
        )

    @asynccontextmanager
    async def speculation(self) -> AsyncIterator[tuple[Speculation, ScratchFile]]:
        async with (
            self.scratch.folder("workflow", 1) as folder,
            self.speculative.speculate(MEDIA_ID, [MP3], folder) as speculation,
            self.scratch.open("ingest", 1) as file,
        ):
            yield speculation, file

    async def take_encoded(self, sha256: str, folder: Path) -> EncodedFile | None:
        return await self.speculative.take_encoded(sha256, MP3, folder, ignore_progress)

    async def transcode(self, path: Path, folder: Path, early: bool) -> Transcoded:
        media = await self.prober.probe(path)
        digest = await asyncio.to_thread(_sha256, path)
        encoded = await self.take_encoded(digest, folder) if early else None
        assert (encoded is not None) == early
        plan = plan_conversion(MP3, media)
        return await self.transcoder.transcode(plan, path, folder, tags_for(plan), encoded=encoded)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[SpeculativeHarness]:
    harness = SpeculativeHarness(settings)
    await harness.scratch.start()
    harness.prober.start()
    yield harness
    await harness.prober.close()
    await harness.scratch.close()


async def begun(speculation: Speculation) -> None:
    """Until ffmpeg writes, which it does not before it was fed."""
    await until(lambda: any(path.stat().st_size for path in speculation.folder.glob("early-*/*")))


async def test_what_was_begun_early_is_what_would_be_made_later(
    harness: SpeculativeHarness, sound: bytes, tmp_path: Path
) -> None:
    for name in ("early", "late"):
        (tmp_path / name).mkdir()
    async with harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound[: HEAD_BYTES + HEAD_BYTES // 2])
        await file.flush()
        await begun(speculation)
        assert not speculation.tasks[next(iter(speculation.tasks))].done()
        await file.write(sound[HEAD_BYTES + HEAD_BYTES // 2 :])
        await file.complete()
        early = await harness.transcode(speculation.source, tmp_path / "early", early=True)
        late = await harness.transcode(speculation.source, tmp_path / "late", early=False)
    assert early.path.read_bytes() == late.path.read_bytes()
    assert early.media == late.media


async def test_the_source_outlives_its_ingest_and_goes_with_its_workflow(
    harness: SpeculativeHarness, sound: bytes, tmp_path: Path
) -> None:
    async with harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound)
        await file.complete()
        file.path.unlink()
        assert harness.speculative.link_source(file.sha256, tmp_path / "source")
    assert not speculation.folder.exists()
    assert not harness.speculative.link_source(file.sha256, tmp_path / "late")
    # Who took it, perhaps for another media with the same bytes, has it still.
    assert (tmp_path / "source").read_bytes() == sound


async def test_what_was_taken_outlives_its_workflow(
    harness: SpeculativeHarness, sound: bytes, tmp_path: Path
) -> None:
    async with harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound)
        await file.complete()
        encoded = await harness.take_encoded(file.sha256, tmp_path)
    assert not speculation.folder.exists()
    assert encoded is not None
    assert encoded.path.stat().st_size


async def test_other_bytes_take_nothing_that_was_begun(
    harness: SpeculativeHarness, sound: bytes
) -> None:
    async with harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound)
        await file.complete()
        assert await harness.take_encoded("0" * 64, speculation.folder) is None


async def test_what_was_begun_early_is_given_away_once(
    harness: SpeculativeHarness, sound: bytes
) -> None:
    async with harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound)
        await file.complete()
        calls = (harness.take_encoded(file.sha256, speculation.folder) for _ in range(3))
        taken = [each for each in await asyncio.gather(*calls) if each is not None]
        assert len(taken) == 1


async def test_a_restarted_file_cancels_its_conversion(
    harness: SpeculativeHarness, sound: bytes
) -> None:
    async with harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound[:HEAD_BYTES])
        await file.flush()
        await begun(speculation)
        await file.restart()
        await file.write(sound)
        await file.complete()
        assert await harness.take_encoded(file.sha256, speculation.folder) is None


async def test_nothing_is_begun_while_the_processor_is_taken(
    harness: SpeculativeHarness, sound: bytes
) -> None:
    async with harness.slots.acquire(1), harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound)
        await file.complete()
        assert await harness.take_encoded(file.sha256, speculation.folder) is None


async def test_a_cancelled_speculation_leaves_no_process_and_no_file(
    harness: SpeculativeHarness, sound: bytes
) -> None:
    async with harness.speculation() as (speculation, file):
        harness.speculative.watch_file(MEDIA_ID, file)
        await file.write(sound[:HEAD_BYTES])
        await file.flush()
        await begun(speculation)
    assert all(task.done() for task in speculation.tasks.values())
    assert not speculation.folder.exists()
    assert harness.slots.free == 1
