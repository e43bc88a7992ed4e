"""Updates of yt-dlp: other releases of it come from the package index that uv is set up with.

The site is ours. Where a version has to fail at what another does, a line of it is changed: that is
what a site's change does to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot.v1.source_service_pb2 import ListSourcesRequest
from ingot_server.api.caller import Caller
from ingot_server.api.source import SourceService
from ingot_server.config import Settings
from ingot_server.connections import connect
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.extractor_update import Wanted, check_now, update, use
from ingot_server.extractors import ExtractorError, Versions
from ingot_server.jobs.care import SourceCare
from ingot_server.jobs.records import Records
from ingot_server.library.identity import canonical_selection, media_id
from ingot_server.pipeline import canary
from ingot_server.pipeline.extraction import Resolved
from ingot_server.pipeline.extractor import Extractor
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES, pick
from ingot_server.worker import Worker
from tests.origin import Origin, Page, running_origin

# Every trial starts yt-dlp several times, a second of processor time each.
pytestmark = [pytest.mark.timeout(600), pytest.mark.sites]

OTHER = "2026.7.4"
BEST = Selection(mode=Selection.MODE_BEST)
SOURCE_SETTINGS = read_source_settings(Settings(), [source.name for source in SOURCES])
COMMAND = Path(sys.executable).with_name("ingot-server")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one test downloaded the others find."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv")))
        yield


@pytest.fixture(scope="session")
def downloaded(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which OTHER is installed, and in use."""
    directory = tmp_path_factory.mktemp("extractors")
    settings = Settings(extractors_dir=str(directory))
    asyncio.run(update(Versions(settings), Wanted(OTHER), settings, SOURCE_SETTINGS, print))
    return directory


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as origin:
        yield origin


@pytest.fixture
def local(tmp_path: Path, origin: Origin, clip: bytes) -> Settings:
    """Settings for what needs no store, with a canary that works."""
    return Settings(
        egress_allow_loopback=True,
        data_dir=tmp_path / "data",
        extractor_canaries=origin.serve("/canary.mp4", Page(clip)),
    )


@pytest.fixture
def installed(local: Settings, downloaded: Path) -> Versions:
    """OTHER is in use, the released version is the previous one."""
    shutil.copytree(downloaded, local.data_dir / "extractors")
    versions = Versions(local)
    assert versions.version == OTHER
    return versions


@dataclass
class Desk:
    """Jobs as a worker runs them, in one Extractor."""

    extractor: Extractor
    proxy: EgressProxy

    async def version(self, url: str) -> str:
        """What a job's extraction says was used."""
        egress = self.proxy.issue("job")
        try:
            async with self.extractor.session(
                url, selection=BEST, options=IngestOptions(), proxy_url=egress.proxy_url
            ) as session:
                found = await session.resolve()
        finally:
            egress.revoke()
        assert isinstance(found, Resolved)
        return found.extraction.extractor_version


@pytest.fixture
async def desk(local: Settings) -> AsyncIterator[Desk]:
    extractor = Extractor(local, installed=Versions(local).place)
    proxy = EgressProxy(local)
    await proxy.start()
    await extractor.start()
    try:
        yield Desk(extractor, proxy)
    finally:
        await extractor.close()
        await proxy.close()


@dataclass
class Told:
    """What was said to the operator."""

    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)


def breaks(versions: Versions, version: str) -> None:
    """Has every page fail with an installed version."""
    module = versions.directory / version / "yt_dlp" / "extractor" / "generic.py"
    source = module.read_text()
    first_line = "def _real_extract(self, url):\n"
    module.write_text(source.replace(first_line, f"{first_line}        {{}}[url]\n"))
    assert module.read_text() != source


def page(origin: Origin, clip: bytes) -> str:
    return origin.serve("/bell.mp4", Page(clip))


async def test_an_update_serves_the_next_job_of_the_same_worker(
    local: Settings, desk: Desk, origin: Origin, clip: bytes
) -> None:
    versions, told, url = Versions(local), Told(), page(origin, clip)
    assert await desk.version(url) == versions.released

    await update(versions, Wanted(OTHER), local, SOURCE_SETTINGS, told)

    assert told.lines[-3:] == [
        f"works with {OTHER}: {local.extractor_canaries}",
        f"yt-dlp {OTHER} is in use from the next job on.",
        f"Before it was {versions.released}; `ingot-server extractor rollback` undoes it.",
    ]
    assert origin.bytes_sent("/canary.mp4") >= len(clip)
    assert await desk.version(url) == OTHER
    assert desk.extractor.version == OTHER
    versions.rollback()
    assert await desk.version(url) == versions.released
    await use(versions, OTHER, local, told)
    assert await desk.version(url) == OTHER


async def test_a_canary_that_fails_leaves_the_version_in_use(
    local: Settings, desk: Desk, origin: Origin, clip: bytes
) -> None:
    gone = origin.serve("/gone.mp4", Page(status=404))
    settings = local.replace(extractor_canaries=f"{local.extractor_canaries}, {gone}")
    versions, told = Versions(settings), Told()

    with pytest.raises(ExtractorError, match=f"{OTHER} is not put to use"):
        await update(versions, Wanted(OTHER), settings, SOURCE_SETTINGS, told)

    assert f"works with {OTHER}: {local.extractor_canaries}" in told.lines
    assert told.lines[-2].startswith(f"fails with {OTHER}: {gone}: MEDIA_DOES_NOT_EXIST")
    assert told.lines[-1] == f"fails with {versions.released} too: {gone}"
    assert await desk.version(page(origin, clip)) == versions.released
    assert [one.version for one in versions.all()] == [versions.released]


async def test_a_version_that_fails_later_is_rolled_back(
    local: Settings, installed: Versions
) -> None:
    told = Told()
    await check_now(installed, local, SOURCE_SETTINGS, told)
    assert told.lines == [f"works with {OTHER}: {local.extractor_canaries}"]
    breaks(installed, OTHER)

    await check_now(installed, local, SOURCE_SETTINGS, told)

    assert told.lines[-1].startswith(f"yt-dlp {installed.released} brings in what {OTHER} does not")
    assert installed.place() is None


async def test_a_canary_that_fails_everywhere_rolls_nothing_back(
    local: Settings, installed: Versions, origin: Origin
) -> None:
    settings = local.replace(extractor_canaries=origin.serve("/gone.mp4", Page(status=404)))
    with pytest.raises(ExtractorError, match="it is the site, or this address"):
        await check_now(installed, settings, SOURCE_SETTINGS, Told())
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
        assert installed.place() is None
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
        await use(installed, OTHER, local, Told())
    assert installed.place() is None


def remove_all(place: Path) -> None:
    shutil.rmtree(place)


def damage(place: Path) -> None:
    (place / "yt_dlp" / "__init__.py").write_text("raise ImportError('cut off')")


@pytest.mark.parametrize("harm", [remove_all, damage])
async def test_a_version_that_is_broken_gives_way_to_the_released_one(
    installed: Versions,
    desk: Desk,
    origin: Origin,
    clip: bytes,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    harm(installed.directory / OTHER)
    url = page(origin, clip)
    await desk.version(url)  # its process may have started before
    assert await desk.version(url) == installed.released
    assert [record for record in caplog.records if OTHER in record.getMessage()]


async def test_an_update_that_was_killed_leaves_nothing_in_use(
    local: Settings, origin: Origin
) -> None:
    silent = origin.serve("/silent.mp4", Page(silent_after=-1))
    versions, told = Versions(local), Told()
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
            await update(versions, Wanted(OTHER), local, SOURCE_SETTINGS, told)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(updating.pid, signal.SIGKILL)
        await updating.wait()

    assert versions.place() is None
    assert [one.version for one in versions.all()] == [versions.released]
    assert list(versions.directory.glob(".new-*"))
    await update(versions, Wanted(OTHER, tried=False), local, SOURCE_SETTINGS, told)
    assert f"yt-dlp {OTHER} starts; no canary was asked." in told.lines
    assert versions.version == OTHER
    assert not list(versions.directory.glob(".new-*"))


async def test_a_version_that_there_is_not_says_so(local: Settings) -> None:
    versions = Versions(local)
    with pytest.raises(ExtractorError, match=r"yt-dlp==1999\.1\.1"):
        await update(versions, Wanted("1999.1.1"), local, SOURCE_SETTINGS, Told())
    assert versions.place() is None


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

    await update(versions, Wanted(source=source), local, SOURCE_SETTINGS, Told())

    assert versions.version == OTHER


async def test_a_newest_version_that_was_left_is_put_to_use_by_its_name_alone(
    local: Settings, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "uv.toml"
    mine.write_text(f'[pip]\nno-index = true\nfind-links = ["{wheels}"]\n')
    monkeypatch.setenv("UV_CONFIG_FILE", str(mine))
    versions, told = Versions(local), Told()
    await update(versions, Wanted(), local, SOURCE_SETTINGS, told)
    assert told.lines == [f"yt-dlp {versions.released} is in use; the newest one there is {OTHER}."]
    assert versions.place() is None

    versions.released = "2026.1.1"  # as if Ingot had come with an older one
    await update(versions, Wanted(), local, SOURCE_SETTINGS, told)
    assert versions.version == OTHER
    versions.rollback()
    await update(versions, Wanted(), local, SOURCE_SETTINGS, told)
    assert told.lines[-1].startswith(f"yt-dlp {OTHER} was left for 2026.1.1.")
    await update(versions, Wanted(OTHER), local, SOURCE_SETTINGS, told)
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
        job = (await records.create(job))[0]
        await worker.run(job.id)
        ended = await records.get(job.id)
        service = SourceService(
            SourceCare(redis, SOURCE_SETTINGS, settings), SOURCE_SETTINGS, settings
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
