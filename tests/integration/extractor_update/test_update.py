"""An update is put to use when its canaries work, from an index or from wheels."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest

from ingot.v1 import job_pb2
from ingot.v1.source_service_pb2 import ListSourcesRequest
from ingot_server.api.caller import Caller
from ingot_server.api.source_service import SourceService
from ingot_server.config import Settings
from ingot_server.cookie_health import CookieHealth
from ingot_server.extractor.update import UpdateRequest, update, use
from ingot_server.extractor.versions import ExtractorError, Versions
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.redis import connect
from ingot_server.sources import pick
from ingot_server.worker import Worker
from tests.integration.extractor_update.update_harness import (
    COMMAND,
    OTHER,
    SOURCE_SETTINGS,
    PrintedLines,
    UpdateHarness,
    page,
)
from tests.origin import Origin, Page

# Every trial starts yt-dlp several times, a second of processor time each.
pytestmark = [pytest.mark.timeout(600), pytest.mark.any_stores, pytest.mark.slow]


async def test_an_update_serves_the_next_job_of_the_same_worker(
    local: Settings, harness: UpdateHarness, origin: Origin, clip: bytes
) -> None:
    versions, told, url = Versions(local), PrintedLines(), page(origin, clip)
    assert await harness.version(url) == versions.released

    await update(versions, UpdateRequest(OTHER), local, SOURCE_SETTINGS, told)

    assert told.lines[-3:] == [
        f"works with {OTHER}: {local.extractor_canaries}",
        f"yt-dlp {OTHER} is in use from the next job on.",
        (
            f"The previous version is {versions.released}; "
            "`ingot-server extractor rollback` undoes it."
        ),
    ]
    assert origin.bytes_sent("/canary.mp4") >= len(clip)
    assert await harness.version(url) == OTHER
    assert harness.extractor.version == OTHER
    versions.rollback()
    assert await harness.version(url) == versions.released
    await use(versions, OTHER, local, told)
    assert await harness.version(url) == OTHER


async def test_a_canary_that_fails_leaves_the_version_in_use(
    local: Settings, harness: UpdateHarness, origin: Origin, clip: bytes
) -> None:
    gone = origin.serve("/gone.mp4", Page(status=404))
    settings = local.replace(extractor_canaries=f"{local.extractor_canaries}, {gone}")
    versions, told = Versions(settings), PrintedLines()

    with pytest.raises(ExtractorError, match=f"{OTHER} is not used"):
        await update(versions, UpdateRequest(OTHER), settings, SOURCE_SETTINGS, told)

    assert f"works with {OTHER}: {local.extractor_canaries}" in told.lines
    assert told.lines[-2].startswith(f"fails with {OTHER}: {gone}: MEDIA_DOES_NOT_EXIST")
    assert told.lines[-1] == f"fails with {versions.released} too: {gone}"
    assert await harness.version(page(origin, clip)) == versions.released
    assert [one.version for one in versions.all()] == [versions.released]


async def test_an_update_that_was_killed_leaves_nothing_in_use(
    local: Settings, origin: Origin
) -> None:
    silent = origin.serve("/silent.mp4", Page(silent_after=-1))
    versions, told = Versions(local), PrintedLines()
    environment = {
        **os.environ,
        **local.replace(extractor_canaries=silent).environment(),
    }
    updating = await asyncio.create_subprocess_exec(
        *(COMMAND, "extractor", "update", OTHER), env=environment, start_new_session=True
    )
    try:
        await origin.arrived()  # its canary is being tried, everything is installed
        with pytest.raises(ExtractorError, match=f"locked by process {updating.pid}"):
            await update(versions, UpdateRequest(OTHER), local, SOURCE_SETTINGS, told)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(updating.pid, signal.SIGKILL)
        await updating.wait()

    assert versions.directory_in_use() is None
    assert [one.version for one in versions.all()] == [versions.released]
    assert list(versions.directory.glob(".new-*"))
    await update(versions, UpdateRequest(OTHER, tested=False), local, SOURCE_SETTINGS, told)
    assert f"yt-dlp {OTHER} starts; no canary was tested." in told.lines
    assert versions.version == OTHER
    assert not list(versions.directory.glob(".new-*"))


async def test_a_version_that_there_is_not_says_so(local: Settings) -> None:
    versions = Versions(local)
    with pytest.raises(ExtractorError, match=r"yt-dlp==1999\.1\.1"):
        await update(versions, UpdateRequest("1999.1.1"), local, SOURCE_SETTINGS, PrintedLines())
    assert versions.directory_in_use() is None


@pytest.fixture
def wheels(downloaded: Path, tmp_path: Path) -> Path:
    """A directory with the wheels of OTHER and of the yt-dlp-ejs that it pins, and nothing else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for info in (downloaded / OTHER).glob("yt_dlp*.dist-info"):
        package = info.with_name(info.name.split("-")[0])
        with zipfile.ZipFile(folder / f"{info.stem}-py3-none-any.whl", "w") as wheel:
            for file in (*info.rglob("*"), *package.rglob("*.py"), *package.rglob("*.js")):
                wheel.write(file, file.relative_to(downloaded / OTHER))
    return folder


@pytest.mark.parametrize("named", ["directory", "file"])
async def test_an_update_from_wheels_needs_no_index(
    local: Settings, wheels: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    versions = Versions(local)
    source = wheels if named == "directory" else next(wheels.glob("yt_dlp-*"))

    await update(versions, UpdateRequest(source=source), local, SOURCE_SETTINGS, PrintedLines())

    assert versions.version == OTHER


async def test_a_newest_version_that_was_left_is_put_to_use_by_its_name_alone(
    local: Settings, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "uv.toml"
    mine.write_text(f'[pip]\nno-index = true\nfind-links = ["{wheels}"]\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(mine))
    versions, told = Versions(local), PrintedLines()
    await update(versions, UpdateRequest(), local, SOURCE_SETTINGS, told)
    assert told.lines == [
        f"yt-dlp {versions.released} is in use; the newest available one is {OTHER}."
    ]
    assert versions.directory_in_use() is None

    versions.released = "2026.1.1"  # as if Ingot had come with an older one
    await update(versions, UpdateRequest(), local, SOURCE_SETTINGS, told)
    assert versions.version == OTHER
    versions.rollback()
    await update(versions, UpdateRequest(), local, SOURCE_SETTINGS, told)
    assert told.lines[-1].startswith(f"yt-dlp {OTHER} was replaced by 2026.1.1.")
    await update(versions, UpdateRequest(OTHER), local, SOURCE_SETTINGS, told)
    assert versions.version == OTHER


async def test_jobs_and_sources_name_the_version_in_use(
    settings: Settings, downloaded: Path, origin: Origin, clip: bytes
) -> None:
    settings = settings.replace(extractors_dir=str(downloaded))
    worker, redis = Worker(settings), connect(settings)
    await worker.start()
    try:
        origin.serve("/clip.mp4", Page(clip))
        html = b"<html><title>Bell</title><video src='/clip.mp4'></video></html>"
        _, identity = pick(origin.serve("/page", Page(html, content_type="text/html")))
        job = job_pb2.Job(kind=job_pb2.JOB_KIND_INGEST, url=identity.url)
        job.selection.CopyFrom(canonical_selection(job.selection))
        job.media.id = media_id(identity.key, job.selection)
        records = Records(redis, settings)
        job = (await records.create(job)).job
        await worker.run_job(job.id)
        ended = await records.get(job.id)
        service = SourceService(
            SourceThrottle(redis, SOURCE_SETTINGS, settings),
            CookieHealth(redis, SOURCE_SETTINGS),
            SOURCE_SETTINGS,
            settings,
        )
        listed = await service.list_sources(ListSourcesRequest(), Caller("unix:"))
    finally:
        await redis.aclose()
        await worker.stop()
    assert ended is not None
    assert ended.media.extraction.extractor_version == OTHER, ended
    assert {one.name: one.extractor_version for one in listed.sources}["youtube"] == OTHER


def command(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [COMMAND, "extractor", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **settings.environment()},
    )
    return done.returncode, done.stdout, done.stderr


def test_the_command_says_what_it_did(local: Settings, installed: Versions) -> None:
    released = installed.released
    code, lines, _ = command(local, "list")
    assert code == 0
    assert [line.split() for line in lines.splitlines()] == [
        ["VERSION", "INSTALLED", "STATE"],
        [released, "with", "Ingot", "previous"],
        [OTHER, *lines.splitlines()[2].split()[1:3], "in", "use"],
    ]
    code, lines, _ = command(local, "rollback")
    assert (code, lines.splitlines()[0]) == (
        0,
        f"yt-dlp {released} is in use from the next job on.",
    )
    code, _, errors = command(local, "use", "1.2.3")
    assert code == 1
    assert "1.2.3 is not installed" in errors
    assert command(local, "remove", OTHER)[0] == 1
    assert command(local, "use")[0] == 2
    assert command(local)[0] == 2
