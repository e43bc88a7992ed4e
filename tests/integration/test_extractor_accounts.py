"""yt-dlp signs in nowhere by itself: it does not read the accounts in files on the machine."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from ingot_server.config import Settings
from tests.harness import running_harness
from tests.installation import files_below
from tests.leaks import MARK
from tests.videos import Video
from tests.waiting import TIMEOUT_SECONDS
from tests.youtube import FakeYouTube

pytestmark = pytest.mark.any_stores

ID = "dQw4-9Wg_cQ"
# yt-dlp fails with an account of this kind as soon as it uses it.
NETRC = f"machine youtube login oauth password {MARK}\n"


async def test_an_account_in_netrc_is_not_used(
    settings: Settings, tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_netrc(tmp_path)
    async with (
        FakeYouTube().running(tmp_path) as site,
        running_harness(site.settings(settings).replace(attempts=1)) as harness,
    ):
        site.videos[ID] = Video(clip)
        # What the extractor has for its home directory is in scratch.
        for directory in {path.parent for path in files_below(settings.scratch_dir)}:
            write_netrc(directory)
        write_netrc(*settings.scratch_dir.rglob("extractor"))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            job = await harness.ingest(f"https://www.youtube.com/watch?v={ID}")

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert MARK not in str(job)


def write_netrc(*directories: Path) -> None:
    for directory in directories:
        path = directory / ".netrc"
        path.write_text(NETRC)
        path.chmod(0o600)
