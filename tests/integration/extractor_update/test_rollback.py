"""A version that fails at what the one before does, or does not start, is used no more."""

from __future__ import annotations

import asyncio
import logging
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor import canary
from ingot_server.extractor.update import check_now, use
from ingot_server.extractor.versions import ExtractorError, Versions
from tests.integration.extractor_update.update_harness import (
    OTHER,
    SOURCE_SETTINGS,
    PrintedLines,
    UpdateHarness,
    page,
)
from tests.origin import Origin, Page

# Every trial starts yt-dlp several times, a second of processor time each.
pytestmark = [pytest.mark.timeout(600), pytest.mark.any_stores, pytest.mark.slow]


def breaks(versions: Versions, version: str) -> None:
    """Has every page fail with an installed version."""
    module = versions.directory / version / "yt_dlp" / "extractor" / "generic.py"
    source = module.read_text()
    first_line = "def _real_extract(self, url):\n"
    module.write_text(source.replace(first_line, f"{first_line}        {{}}[url]\n"))
    assert module.read_text() != source


async def test_a_version_that_fails_later_is_rolled_back(
    local: Settings, installed: Versions
) -> None:
    told = PrintedLines()
    await check_now(installed, local, SOURCE_SETTINGS, told)
    assert told.lines == [f"works with {OTHER}: {local.extractor_canaries}"]
    breaks(installed, OTHER)

    await check_now(installed, local, SOURCE_SETTINGS, told)

    assert told.lines[-1].startswith(f"yt-dlp {installed.released} works where {OTHER} fails")
    assert installed.directory_in_use() is None


async def test_a_canary_that_fails_everywhere_rolls_nothing_back(
    local: Settings, installed: Versions, origin: Origin
) -> None:
    settings = local.replace(extractor_canaries=origin.serve("/gone.mp4", Page(status=404)))
    with pytest.raises(ExtractorError, match="the site or this address is the cause"):
        await check_now(installed, settings, SOURCE_SETTINGS, PrintedLines())
    assert installed.version == OTHER


async def test_a_worker_rolls_back_by_itself(local: Settings, installed: Versions) -> None:
    breaks(installed, OTHER)
    settings = local.replace(extractor_check_interval=timedelta(milliseconds=200))
    rolled_back = asyncio.Event()

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "in use again" in record.getMessage():
                rolled_back.set()

    watch, log = Watch(), logging.getLogger(canary.__name__)
    log.addHandler(watch)
    checking = asyncio.create_task(canary.keep_checking(installed, settings, SOURCE_SETTINGS))
    try:
        await rolled_back.wait()
        assert installed.directory_in_use() is None
        assert not checking.done()
    finally:
        log.removeHandler(watch)
        checking.cancel()
        await asyncio.wait([checking])


async def test_a_version_that_does_not_start_is_not_used(
    local: Settings, installed: Versions
) -> None:
    installed.rollback()
    damage(installed.directory / OTHER)
    with pytest.raises(Failure, match=f"yt-dlp {OTHER} does not start"):
        await use(installed, OTHER, local, PrintedLines())
    assert installed.directory_in_use() is None


def remove_all(place: Path) -> None:
    shutil.rmtree(place)


def damage(place: Path) -> None:
    (place / "yt_dlp" / "__init__.py").write_text("raise ImportError('cut off')")


@pytest.fixture(params=[remove_all, damage])
def broken(request: pytest.FixtureRequest, installed: Versions) -> Versions:
    """What was installed is broken before anything runs it."""
    request.param(installed.directory / OTHER)
    return installed


# `broken` before `harness`: that starts a process, which imports what is installed.
async def test_a_version_that_is_broken_gives_way_to_the_released_one(
    broken: Versions,
    harness: UpdateHarness,
    origin: Origin,
    clip: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert await harness.version(page(origin, clip)) == broken.released
    logged = [*caplog.get_records("setup"), *caplog.records]
    assert [record for record in logged if OTHER in record.getMessage()]
