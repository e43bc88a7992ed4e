"""The transcription endpoint that the settings name, in the protocol of OpenAI's.

https://platform.openai.com/docs/api-reference/audio/createTranscription: one request with a file,
answered as `verbose_json`. The endpoint is reached through a guard, with a grant of its own, which
alone may lead to what INGOT_EGRESS_ALLOW names. The key is in no log and no failure.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from ingot.v1 import reason_pb2
from ingot_server.allowed_destinations import parse_allowed_destinations
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.foreign_json import parse_json
from ingot_server.languages import language_tag
from ingot_server.transcription.transcript import Segment
from ingot_server.transfer.fetch import Fetcher
from ingot_server.transfer.headers import REDIRECTS, parse_retry_after

_RESPONSE_BYTES: Final = 16 << 20
_QUOTED_CHARACTERS: Final = 300
# Letters of a code of ISO 639; what is longer is a name that is not known.
_LONGEST_CODE: Final = 3
# What servers return for a request without a file.
_FILE_IS_MISSING: Final = frozenset({200, 400, 415, 422})


@dataclass(frozen=True, slots=True)
class Heard:
    """What the endpoint heard in one file."""

    segments: tuple[Segment, ...]
    language: str
    """BCP 47; empty if the endpoint does not say."""


class TranscriptionEndpoint:
    """The endpoint, for one job; `connected_endpoint` gives it."""

    def __init__(self, settings: Settings, fetcher: Fetcher, host: str) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._host = host
        self._key = str(settings.transcription_api_key)

    async def transcribe(self, audio: Path, *, language: str, seconds: float) -> Heard:
        """Return what is said in the MP3 file `audio`, which lasts that long.

        `language` is a BCP 47 tag, or empty if the endpoint shall detect it. Safe to cancel, and to
        repeat. Raises Failure TRANSCRIPTION_NOT_CONFIGURED, TRANSCRIPTION_FAILED.
        """
        form = self._form(language)
        content = await asyncio.to_thread(audio.read_bytes)
        # aiohttp sends a file in small parts, and bytes at once, while nothing else can run.
        file = io.BytesIO(content)
        form.add_field("file", file, filename="audio.mp3", content_type="audio/mpeg")
        status, body, retry_after = await self._post(form)
        if status != 200:
            raise self._refusal(status, body, retry_after)
        if len(body) > _RESPONSE_BYTES:
            raise self._failed(f"sent more than {_RESPONSE_BYTES} bytes", final=True)
        return self._heard(body, seconds)

    async def check(self) -> None:
        """Send a request without a file, which costs nothing and is refused for that.

        Raises Failure as `transcribe` does if it is refused for another reason.
        """
        form = self._form("")
        form.add_field("file", "")
        status, body, retry_after = await self._post(form)
        if status not in _FILE_IS_MISSING:
            raise self._refusal(status, body, retry_after)

    async def _post(self, form: aiohttp.FormData) -> tuple[int, bytes, str]:
        """Return the status and the body of the response, and its Retry-After."""
        headers = {"Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            async with self._fetcher.post(
                self._settings.transcription_url, headers, form
            ) as response:
                body = await self._fetcher.read_body(response, at_most=_RESPONSE_BYTES + 1)
                return response.status, body, response.headers.get("Retry-After", "")
        except Failure as failure:
            # Its causes are exceptions of aiohttp, which contain the headers of the request.
            raise self._unreached(failure) from None

    def _form(self, language: str) -> aiohttp.FormData:
        form = aiohttp.FormData(default_to_multipart=True)
        form.add_field("model", self._settings.transcription_model)
        form.add_field("response_format", "verbose_json")
        form.add_field("timestamp_granularities[]", "segment")
        if language:
            # ISO 639-1 has no variants.
            form.add_field("language", language.partition("-")[0])
        return form

    def _heard(self, body: bytes, seconds: float) -> Heard:
        try:
            answer = parse_json(body)
        except ValueError:
            raise self._failed("sent a response that is not JSON") from None
        found = answer.get("segments") if isinstance(answer, dict) else None
        if not isinstance(found, list):
            raise self._failed(
                "sent no segments. Set INGOT_TRANSCRIPTION_MODEL to a model that knows the "
                "response_format verbose_json, such as whisper-1",
                final=True,
            )
        try:
            segments = [segment for each in found if (segment := _segment(each, seconds))]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise self._failed("sent segments without a start, an end or a text") from None
        return Heard(
            tuple(sorted(segments, key=lambda segment: segment.start)),
            _language(answer.get("language")),
        )

    def _unreached(self, failure: Failure) -> Failure:
        if failure.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN:
            return _not_configured(
                "egress_allow",
                f"The transcription endpoint at {self._host} has a private or otherwise special "
                "address. If that is intended, name it as HOST:PORT in INGOT_EGRESS_ALLOW.",
            )
        return Failure(
            reason_pb2.REASON_TRANSCRIPTION_FAILED,
            f"The transcription endpoint gave no response: {failure.message}",
        )

    def _refusal(self, status: int, body: bytes, retry_after: str) -> Failure:
        said = self._quoted(body)
        if status in {401, 403}:
            return _not_configured(
                "transcription_api_key",
                f"The transcription endpoint at {self._host} refuses the request{said}. Check "
                "INGOT_TRANSCRIPTION_API_KEY.",
                status,
            )
        if status == 404 or status in REDIRECTS:
            return _not_configured(
                "transcription_url",
                f"The transcription endpoint at {self._host} returned the status {status}{said}. "
                "Check INGOT_TRANSCRIPTION_URL, which redirects do not change, and "
                "INGOT_TRANSCRIPTION_MODEL.",
                status,
            )
        return self._failed(
            f"returned the status {status}{said}",
            status=status,
            retry_after=retry_after,
            final=status < 500 and status not in {408, 409, 425, 429},
        )

    def _failed(
        self, what: str, *, status: int = 200, retry_after: str = "", final: bool = False
    ) -> Failure:
        return Failure(
            reason_pb2.REASON_TRANSCRIPTION_FAILED,
            f"The transcription endpoint at {self._host} {what}.",
            metadata={"http_status": str(status)},
            retry_after=parse_retry_after(retry_after),
            final=final,
        )

    def _quoted(self, body: bytes) -> str:
        """Return what an error says, as the end of a sentence; empty if it says nothing."""
        text = body[:_RESPONSE_BYTES].decode(errors="replace")
        with suppress(ValueError):
            text = _message(parse_json(text)) or text
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join(text.split())[:_QUOTED_CHARACTERS].rstrip(".")
        return f": {text}" if text else ""


@asynccontextmanager
async def connected_endpoint(
    settings: Settings, holder: str
) -> AsyncIterator[TranscriptionEndpoint]:
    """Yield the endpoint that the settings name; `holder` is the id of the job that uses it."""
    host = (URL(settings.transcription_url, encoded=True).raw_host or "").lower()
    allowed = parse_allowed_destinations(settings.egress_allow)
    # The job's guard closes a connection on which nothing moves, and an endpoint is silent for
    # longer than a source may be.
    patient = settings.replace(stall_timeout=settings.transcription_timeout)
    guard = EgressProxy(patient)
    await guard.start()
    try:
        grant = guard.grant(holder, allowed=allowed)
        async with Fetcher(patient, grant.proxy_url, checks_hosts=False) as fetcher:
            yield TranscriptionEndpoint(settings, fetcher, host)
    finally:
        await guard.close()


def _segment(found: Any, seconds: float) -> Segment | None:
    """Return a segment, cut to the length of the file; None if nothing of it is left."""
    start, end, text = float(found["start"]), float(found["end"]), found["text"].strip()
    if not (math.isfinite(start) and math.isfinite(end)):
        raise ValueError("not a time")
    start, end = max(start, 0.0), min(end, seconds)
    return Segment(start, end, " ".join(text.split())) if text and start < end else None


def _language(found: Any) -> str:
    """Return a tag for what OpenAI calls `english`, and others `en`; empty if it is unknown."""
    tag = language_tag(found) if isinstance(found, str) else ""
    return tag if len(tag.partition("-")[0]) <= _LONGEST_CODE else ""


def _message(answer: Any) -> str:
    """Return the message in the JSON of an error, as OpenAI and FastAPI write it."""
    if not isinstance(answer, dict):
        return ""
    error = answer.get("error", answer.get("detail"))
    message = error.get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _not_configured(setting: str, message: str, status: int = 0) -> Failure:
    metadata = {"setting": setting} | ({"http_status": str(status)} if status else {})
    return Failure(reason_pb2.REASON_TRANSCRIPTION_NOT_CONFIGURED, message, metadata=metadata)
