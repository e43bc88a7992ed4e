from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.update import UpdateRequest, update
from ingot_server.extractor.versions import Versions
from tests.integration.extractor_update.update_harness import OTHER, SOURCE_SETTINGS, UpdateHarness
from tests.origin import Origin, Page


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What one test downloaded the others find; Python compiles only what it imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_CACHE_DIR", str(tmp_path_factory.mktemp("uv")))
        patch.setenv("UV_COMPILE_BYTECODE", "false")
        yield


@pytest.fixture(scope="session")
def downloaded(cache: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which OTHER is installed, and in use."""
    directory = tmp_path_factory.mktemp("extractors")
    settings = Settings(extractors_dir=str(directory))
    asyncio.run(update(Versions(settings), UpdateRequest(OTHER), settings, SOURCE_SETTINGS, print))
    return directory


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


@pytest.fixture
async def harness(local: Settings) -> AsyncIterator[UpdateHarness]:
    extractor = ExtractorPool(local, installed=Versions(local).directory_in_use)
    proxy = EgressProxy(local)
    await proxy.start()
    await extractor.start()
    try:
        yield UpdateHarness(extractor, proxy)
    finally:
        await extractor.close()
        await proxy.close()
