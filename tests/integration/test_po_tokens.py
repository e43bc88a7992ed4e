"""PO tokens that Ingot makes itself, with Deno, for yt-dlp's real YouTube extractor.

The site is a fake (tests/youtube.py), and so is its attestation (tests/botguard.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from tests.botguard import INTERPRETER_PATH, VISITOR, token_for
from tests.harness import running_harness
from tests.videos import Video
from tests.youtube import FakeYouTube

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

ID = "dQw4-9Wg_cQ"
TOKEN = token_for(VISITOR)
ATTESTATION = ("/youtubei/v1/att/get", INTERPRETER_PATH, "/GenerateIT")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FakeYouTube]:
    async with FakeYouTube().running(tmp_path) as site:
        yield site


async def ingested(site: FakeYouTube, settings: Settings, *, po_tokens: bool = True) -> Job:
    chosen = site.settings(settings).replace(po_tokens=po_tokens, attempts=1)
    async with running_harness(chosen) as harness:
        return await harness.ingest(f"youtu.be/{ID}")


def attested(site: FakeYouTube) -> list[int]:
    """How often each part of the attestation was requested."""
    return [len(site.asked(path)) for path in ATTESTATION]


async def test_media_that_needs_a_token_is_requested_with_one(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip, po_token=TOKEN)
    job = await ingested(site, settings)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.media.blob.sha256 == hashlib.sha256(clip).hexdigest()
    assert attested(site) == [1, 1, 1]
    [media] = site.asked("/videoplayback")
    assert f"pot={quote(TOKEN)}" in media


async def test_media_that_needs_no_token_costs_no_attestation(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip)
    job = await ingested(site, settings)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert attested(site) == [0, 0, 0]
    assert len(site.asked("/watch")) == 1


@pytest.mark.parametrize(
    ("attests", "token", "said"),
    [
        (False, TOKEN, "PO tokens could not be made: HTTP Error 404"),
        (True, "another-token", "the job goes on without PO tokens: "),
    ],
    ids=["no attestation", "a token that is refused"],
)
async def test_a_provider_that_fails_costs_no_media_that_comes_without(
    settings: Settings,
    site: FakeYouTube,
    clip: bytes,
    attests: bool,
    token: str,
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The better format needs a token, and the other one is taken."""
    site.videos[ID] = Video(clip, po_token=token, also_without_token=True)
    site.attests = attests
    job = await ingested(site, settings)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED, job
    assert job.extraction.format_id == "18"
    assert said in caplog.text


async def test_a_setting_turns_tokens_off(
    settings: Settings, site: FakeYouTube, clip: bytes
) -> None:
    site.videos[ID] = Video(clip, po_token=TOKEN)
    job = await ingested(site, settings, po_tokens=False)

    assert job.state == job_pb2.JOB_STATE_FAILED
    assert attested(site) == [0, 0, 0]
