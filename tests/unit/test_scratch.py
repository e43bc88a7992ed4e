from __future__ import annotations

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.setting_values import ByteSize, SettingError
from ingot_server.transfer.scratch import BATCH_BYTES, Abandoned, Scratch, ScratchFile

CONTENT = random.Random(1).randbytes(3 * BATCH_BYTES + 12345)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(scratch_dir=tmp_path / "scratch", scratch_reserve=ByteSize(0))


@pytest.fixture
async def scratch(settings: Settings) -> AsyncIterator[Scratch]:
    scratch = Scratch(settings)
    await scratch.start()
    yield scratch
    await scratch.close()


@pytest.fixture
async def file(scratch: Scratch) -> AsyncIterator[ScratchFile]:
    async with scratch.open("job", 1) as file:
        yield file


async def _write(file: ScratchFile, content: bytes, chunk: int = 70_000) -> None:
    for start in range(0, len(content), chunk):
        await file.write(content[start : start + chunk])


async def test_a_file_holds_and_hashes_what_was_written(file: ScratchFile) -> None:
    await _write(file, CONTENT)
    await file.complete()
    assert file.path.read_bytes() == CONTENT
    assert file.size == len(CONTENT)
    assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()


async def test_size_and_hash_count_what_is_on_the_disk(file: ScratchFile) -> None:
    await file.write(b"abc")
    assert file.size == 0
    await file.flush()
    assert (file.size, file.sha256) == (3, hashlib.sha256(b"abc").hexdigest())


async def test_a_file_is_gone_with_its_context_and_a_directory_with_its_scratch(
    settings: Settings,
) -> None:
    scratch = Scratch(settings)
    await scratch.start()
    async with scratch.open("job", 1) as file:
        await _write(file, CONTENT)
        assert file.path.exists()
    assert not file.path.exists()
    await scratch.close()
    assert [path.name for path in settings.scratch_dir.iterdir()] == ["sweep.lock"]


async def test_a_tail_reader_reads_exactly_what_it_asks_for_while_the_file_grows(
    file: ScratchFile,
) -> None:
    def read() -> list[bytes]:
        with file.tail() as tail_reader:
            parts = []
            while part := tail_reader.read(1_000_000):
                parts.append(part)
            return parts

    reading = asyncio.create_task(asyncio.to_thread(read))
    for start in range(0, len(CONTENT), 300_000):
        await file.write(CONTENT[start : start + 300_000])
        await asyncio.sleep(0)
    await file.complete()
    parts = await reading
    assert b"".join(parts) == CONTENT
    assert {len(part) for part in parts[:-1]} == {1_000_000}
    assert file.was_read


async def test_a_tail_reader_reads_a_complete_file_to_its_end(file: ScratchFile) -> None:
    await _write(file, CONTENT)
    await file.complete()
    with file.tail() as tail_reader:
        assert await asyncio.to_thread(tail_reader.read) == CONTENT
        assert tail_reader.tell() == len(CONTENT)
        assert tail_reader.read(1) == b""


async def test_a_tail_reader_fails_with_the_writers_failure(file: ScratchFile) -> None:
    with file.tail() as tail_reader:
        reading = asyncio.create_task(asyncio.to_thread(tail_reader.read, 1))
        await asyncio.sleep(0.01)
        file.fail(Failure(reason_pb2.REASON_STALLED, "Nothing came."))
        with pytest.raises(Failure, match="Nothing came"):
            await reading


async def test_a_tail_reader_fails_when_the_writer_was_cancelled(file: ScratchFile) -> None:
    with file.tail() as tail_reader:
        file.fail(asyncio.CancelledError())
        with pytest.raises(Abandoned):
            tail_reader.read(1)


async def test_a_tail_reader_fails_when_the_file_is_left_unfinished(scratch: Scratch) -> None:
    async with scratch.open("job", 1) as file:
        await file.write(b"abc")
        tail_reader = file.tail()
        reading = asyncio.create_task(asyncio.to_thread(tail_reader.read, 10))
        await asyncio.sleep(0.01)
    with pytest.raises(Abandoned):
        await reading
    tail_reader.close()


async def test_a_tail_reader_closed_from_outside_stops_waiting(file: ScratchFile) -> None:
    tail_reader = file.tail()
    reading = asyncio.create_task(asyncio.to_thread(tail_reader.read, 10))
    await asyncio.sleep(0.01)
    tail_reader.close()
    with pytest.raises(Abandoned):
        await reading
    tail_reader.close()


async def test_a_failure_after_the_end_changes_nothing(file: ScratchFile) -> None:
    await file.write(b"abc")
    await file.complete()
    file.fail(Failure(reason_pb2.REASON_STALLED, "late"))
    with file.tail() as tail_reader:
        assert tail_reader.read() == b"abc"


async def test_a_restart_empties_the_file_and_fails_its_readers(file: ScratchFile) -> None:
    await file.write(b"old")
    await file.flush()
    with file.tail() as reader, file.tail() as waiting:
        assert reader.read(2) == b"ol"
        assert file.was_read
        await file.restart()
        assert (file.size, file.was_read, file.path.read_bytes()) == (0, False, b"")
        await file.write(b"newer")
        await file.complete()
        with pytest.raises(Abandoned):
            reader.read(1)
        with pytest.raises(Abandoned):
            waiting.read(1)
    with file.tail() as tail_reader:
        assert tail_reader.read() == b"newer"
    assert file.sha256 == hashlib.sha256(b"newer").hexdigest()


async def test_a_restart_before_anybody_read_is_not_noticed(file: ScratchFile) -> None:
    await file.write(b"old")
    with file.tail() as tail_reader:
        await file.restart()
        await file.write(b"newer")
        await file.complete()
        assert tail_reader.read() == b"newer"


async def test_the_announced_size_must_fit_next_to_the_reserve(settings: Settings) -> None:
    free = _free(settings.scratch_dir.parent)
    scratch = Scratch(settings.replace(scratch_reserve=ByteSize(free // 2)))
    await scratch.start()
    async with scratch.open("first", 1) as first, scratch.open("second", 1) as second:
        with pytest.raises(Failure) as caught:
            first.reserve(free * 3 // 4)
        assert caught.value.reason == reason_pb2.REASON_SCRATCH_FULL
        first.reserve(free * 3 // 8)
        with pytest.raises(Failure):
            second.reserve(free * 3 // 8)
    async with scratch.open("third", 1) as third:
        third.reserve(free * 3 // 8)
    await scratch.close()


async def test_a_reserve_that_is_touched_while_writing_ends_the_file(settings: Settings) -> None:
    scratch = Scratch(settings.replace(scratch_reserve=ByteSize(1 << 62)))
    await scratch.start()
    async with scratch.open("job", 1) as file:
        with pytest.raises(Failure) as caught:
            await _write(file, bytes(20 * BATCH_BYTES))
        assert caught.value.reason == reason_pb2.REASON_SCRATCH_FULL
        with pytest.raises(Failure):
            await file.complete()
    await scratch.close()


async def test_a_disk_without_room_is_reported_as_such(file: ScratchFile) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, file._descriptor)
    os.close(full)
    await file.write(b"abc")
    with pytest.raises(Failure) as caught:
        await file.complete()
    assert caught.value.reason == reason_pb2.REASON_SCRATCH_FULL


OWNER = """
import asyncio, sys
from pathlib import Path
from ingot_server.config import Settings
from ingot_server.transfer.scratch import Scratch

async def main():
    scratch = Scratch(Settings(scratch_dir=Path(sys.argv[1])))
    await scratch.start()
    async with scratch.open("job", 1) as file:
        print(file.path, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


async def test_leftovers_of_the_dead_are_swept_and_the_living_are_not(settings: Settings) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", OWNER, settings.scratch_dir),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert owner.stdout is not None
    path = Path((await owner.stdout.readline()).decode().strip())
    first = Scratch(settings)
    await first.start()
    assert path.exists()
    owner.kill()
    await owner.communicate()
    assert path.exists()
    second = Scratch(settings)
    await second.start()
    assert not path.parent.exists()
    async with first.open("job", 2) as file:
        await file.write(b"abc")
        await file.complete()
    await first.close()
    await second.close()


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="INGOT_SCRATCH_DIR"):
        await Scratch(Settings(scratch_dir=tmp_path / "file" / "scratch")).start()


async def test_a_cancelled_write_leaves_nothing_open(scratch: Scratch) -> None:
    before = _open_files()
    for attempt in range(20):
        async with scratch.open("job", attempt) as file:
            writing = asyncio.create_task(_write(file, CONTENT))
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    await scratch.close()
    assert _open_files() < before


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


async def test_what_a_dead_worker_kept_is_swept(tmp_path: Path) -> None:
    dead, next_one = (Scratch(Settings(scratch_dir=tmp_path)) for _ in range(2))
    await dead.start()
    kept = dead.make_folder("extractor")
    (kept / "player.json").write_text("{}")
    os.close(dead._lock)  # as the kernel does when a process is killed
    await next_one.start()
    assert not kept.exists()
    await next_one.close()


async def test_a_disk_that_is_full_under_a_folder_is_reported(scratch: Scratch) -> None:
    async def fill(name: str) -> None:
        async with scratch.folder("job", 1) as folder:
            (folder / "tags").symlink_to("/dev/full")
            (folder / name).write_text("more than there is room for")

    with pytest.raises(Failure) as caught:
        await fill("tags")
    assert caught.value.reason == reason_pb2.REASON_SCRATCH_FULL
    with pytest.raises(IsADirectoryError):  # Another error stays what it is.
        await fill(".")
    async with scratch.folder("job", 1) as folder:
        assert list(folder.iterdir()) == []


async def test_an_attempt_that_begins_again_does_not_share_files_with_itself(
    scratch: Scratch,
) -> None:
    async with scratch.folder("job", 1) as first, scratch.folder("job", 1) as second:
        assert first != second
    async with scratch.open("job", 1) as lost, scratch.open("job", 1) as file:
        assert lost.path != file.path
