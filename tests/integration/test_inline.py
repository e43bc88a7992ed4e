"""Media in a `data:` URL is stored like any other."""

from __future__ import annotations

import base64
import io
import wave

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from tests.harness import Harness

pytestmark = pytest.mark.any_stores


async def test_media_in_the_url_is_stored(harness: Harness) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 1, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(2000))
    url = f"data:audio/wav;base64,{base64.b64encode(file.getvalue()).decode()}"

    job = await harness.ingest(url)

    assert job.state == JOB_STATE_SUCCEEDED
    assert job.media.blob.size_bytes == len(file.getvalue())
