"""Whether the transcription endpoint accepts requests."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.findings import Finding, ok, problem
from ingot_server.transcription.endpoint import connected_endpoint

_SECONDS: Final = timedelta(seconds=5)


async def check_transcription(settings: Settings) -> list[Finding]:
    """Send the endpoint a request without a file, if the settings name one."""
    if not settings.transcription_url:
        return []
    name = "transcription"
    try:
        async with connected_endpoint(
            settings.replace(transcription_timeout=_SECONDS), "doctor"
        ) as endpoint:
            await endpoint.check()
    except Failure as failure:
        return [problem(name, failure.message, "Transcripts of sound fail until then.")]
    return [ok(name, "The transcription endpoint accepts requests.")]
