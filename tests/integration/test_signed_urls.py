"""A URL that its server compares byte by byte with what it signed: it is requested as written."""

from __future__ import annotations

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from ingot_server.sources.http import normalise
from tests.harness import Harness
from tests.manifests import serve_manifest
from tests.media import media
from tests.origin import Origin, Page
from tests.recipes import make_recipe

pytestmark = pytest.mark.any_stores

SIGNED = "/clip%2b%7E|1.mp4?X-Amz-Credential=A%2f1&sig=a+b%20c%2b=&?"


@pytest.mark.parametrize("recipes", [[], [make_recipe("mp3")]], ids=["ingest", "workflow"])
async def test_a_signed_url_is_requested_as_written_and_shown_in_its_normal_form(
    harness: Harness, origin: Origin, recipes: list[object]
) -> None:
    origin.serve(SIGNED.partition("?")[0], Page(media("faststart.mp4").read_bytes()))
    url = origin.url(SIGNED)

    job = await harness.ingest(url + "#t=3", recipes=recipes)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert {asked.path for asked in origin.log} == {SIGNED}
    assert (job.url, job.media.url, job.fetch_url) == (normalise(url), normalise(url), url)
    again = await harness.ask(url.replace("%2b", "%2B").replace("%7E", "~"), recipes=recipes)
    assert (again.cached, again.media.id) == (True, job.media.id)


async def test_a_signed_manifest_is_requested_as_written(harness: Harness, origin: Origin) -> None:
    manifest = serve_manifest(origin, "hls")
    query = "?sig=a%2b%7E%2E%2f|c&"

    job = await harness.ingest(manifest + query)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    asked = {asked.path for asked in origin.log if ".m3u8" in asked.path}
    assert asked == {manifest.removeprefix(origin.base) + query}
