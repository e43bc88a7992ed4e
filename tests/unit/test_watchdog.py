import threading
from datetime import timedelta
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor.watchdog import RateWatchdog
from ingot_server.setting_values import ByteSize

LIMITS = Settings(stall_timeout=timedelta(milliseconds=1), stall_rate=ByteSize(1))


async def test_files_may_go_while_they_are_counted(tmp_path: Path) -> None:
    over = threading.Event()

    def write_and_take_away() -> None:
        while not over.is_set():
            for number in range(50):
                tmp_path.joinpath(str(number)).write_bytes(b"fragment")
            for number in range(50):
                tmp_path.joinpath(str(number)).unlink()

    tmp_path.joinpath("media").write_bytes(bytes(1000))
    writer = threading.Thread(target=write_and_take_away)
    writer.start()
    try:
        for done in range(0, 2_000_000, 1000):
            watch = RateWatchdog(tmp_path, LIMITS)
            watch.done = done
            watch.check()
    finally:
        over.set()
        writer.join()


async def test_nothing_that_moves_is_a_stall(tmp_path: Path) -> None:
    watch = RateWatchdog(tmp_path, LIMITS.replace(stall_timeout=timedelta(0)))
    with pytest.raises(Failure) as caught:
        watch.check()
    assert caught.value.reason == reason_pb2.REASON_STALLED


async def test_what_ffmpeg_writes_moves(tmp_path: Path) -> None:
    watch = RateWatchdog(tmp_path, LIMITS.replace(stall_timeout=timedelta(0)))
    tmp_path.joinpath("media").write_bytes(bytes(1000))
    watch.check()
