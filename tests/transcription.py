"""A stand-in for a transcription endpoint in the protocol of OpenAI's, which hears where sound is.

It decodes what it is sent, and returns a segment for each stretch that is not silent. The real one
understands words; the requests and the responses have the same form.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import imageio_ffmpeg
from aiohttp import web

from tests.web_server import web_server

_HZ = 16000
_STEP = _HZ // 20
_LOUD = 1000


@dataclass
class Asked:
    """One request."""

    fields: dict[str, str]
    key: str
    file_name: str
    audio: bytes


class TranscriptionStandIn:
    """Answers requests with what it hears, unless `answers` has something else to say."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[tuple[int, str, dict[str, str]] | None] = []
        """Status, body and headers of the next responses; None for what it hears."""
        self.gate: asyncio.Event | None = None
        """Responses wait for it."""
        self.hung_up = asyncio.Event()
        """Set when a client left while it waited."""
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[TranscriptionStandIn]:
        async with web_server(self._serve, cancels=True) as address:
            self.url = f"http://{address}/v1/audio/transcriptions"
            yield self

    async def _serve(self, request: web.Request) -> web.Response:
        form = await request.post()
        file = form.get("file")
        if not isinstance(file, web.FileField):
            return web.json_response({"error": {"message": "file is required"}}, status=400)
        with file.file:
            audio = file.file.read()
        self.asked.append(
            Asked(
                {name: value for name, value in form.items() if isinstance(value, str)},
                request.headers.get("Authorization", ""),
                file.filename,
                audio,
            )
        )
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.hung_up.set()
                raise
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            status, body, headers = answer
            return web.Response(status=status, text=body, headers=headers)
        heard = await asyncio.to_thread(_sounds, self.asked[-1].audio)
        return web.json_response(_answer(heard, len(self.asked)))


def _answer(heard: list[tuple[float, float]], number: int) -> dict[str, Any]:
    segments = [
        {"id": index, "seek": 0, "start": start, "end": end, "text": f" Beep {number}.{index} "}
        for index, (start, end) in enumerate(heard)
    ]
    text = "".join(str(each["text"]) for each in segments)
    return {"task": "transcribe", "language": "english", "text": text, "segments": segments}


def _sounds(audio: bytes) -> list[tuple[float, float]]:
    """Return the stretches of sound, in seconds."""
    decoded = subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "mp3", "-i", "-"),
            *("-f", "s16le", "-ac", "1", "-ar", str(_HZ), "-"),
        ],
        input=audio,
        check=True,
        capture_output=True,
    ).stdout
    samples = array("h", decoded)
    loud = [
        max(map(abs, samples[begin : begin + _STEP])) > _LOUD
        for begin in range(0, len(samples), _STEP)
    ]
    found, position = [], 0
    for is_loud, steps in groupby(loud):
        length = len(list(steps))
        if is_loud:
            found.append((position * _STEP / _HZ, (position + length) * _STEP / _HZ))
        position += length
    return found


GARBAGE = json.dumps({"segments": [{"text": 1}]})
