"""The client of the transcription endpoint: what is sent, and what each answer means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.doctor.transcription import check_transcription
from ingot_server.errors import Failure, reason_name
from ingot_server.findings import Level
from ingot_server.setting_values import Secret
from ingot_server.transcription.endpoint import Heard, connected_endpoint
from ingot_server.transcription.transcript import Segment
from tests.leaks import MARK
from tests.transcription import GARBAGE, TranscriptionStandIn

KEY = f"sk-{MARK}"
SOUND = b"sound" * 1_000_000
"""As many bytes as 20 minutes have."""
SEGMENTS = '{"language": "german", "segments": [%s]}'
WORD = '{"start": 0.5, "end": 9, "text": " Ja. "}'


@pytest.fixture
async def stand_in() -> AsyncIterator[TranscriptionStandIn]:
    async with TranscriptionStandIn().running() as running:
        yield running


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    path = tmp_path / "audio.mp3"
    path.write_bytes(SOUND)
    return path


def settings_for(stand_in: TranscriptionStandIn, *, allow: str = "127.0.0.1/32") -> Settings:
    return Settings(
        transcription_url=stand_in.url,
        transcription_api_key=Secret(KEY),
        transcription_model="a-model",
        egress_allow=allow,
    )


async def hear(settings: Settings, audio: Path, language: str = "") -> Heard:
    async with connected_endpoint(settings, "job") as endpoint:
        return await endpoint.transcribe(audio, language=language, seconds=2.0)


async def test_a_request_has_the_form_of_the_protocol(
    stand_in: TranscriptionStandIn, audio: Path
) -> None:
    stand_in.answers.append((200, SEGMENTS % WORD, {}))

    heard = await hear(settings_for(stand_in), audio, "de-CH")

    (asked,) = stand_in.asked
    assert asked.fields == {
        "model": "a-model",
        "response_format": "verbose_json",
        "timestamp_granularities[]": "segment",
        "language": "de",
    }
    assert (asked.key, asked.file_name, asked.audio) == (f"Bearer {KEY}", "audio.mp3", SOUND)
    assert heard == Heard((Segment(0.5, 2.0, "Ja."),), "de")


@pytest.mark.parametrize("allow", ["", "10.0.0.0/8", "127.0.0.1:1"])
async def test_a_private_address_is_reached_only_if_a_setting_allows_it(
    stand_in: TranscriptionStandIn, audio: Path, allow: str
) -> None:
    with pytest.raises(Failure) as refused:
        await hear(settings_for(stand_in, allow=allow), audio)

    assert reason_name(refused.value.reason) == "TRANSCRIPTION_NOT_CONFIGURED"
    assert refused.value.metadata == {"setting": "egress_allow"}
    assert not stand_in.asked

    address = stand_in.url.split("/")[2]
    stand_in.answers.append((200, SEGMENTS % "", {}))
    assert await hear(settings_for(stand_in, allow=address), audio) == Heard((), "de")


@pytest.mark.parametrize(
    ("status", "body", "headers", "reason", "final", "words"),
    [
        (401, f'{{"error": {{"message": "Wrong key {KEY}"}}}}', {}, "NOT_CONFIGURED", False, "***"),
        (404, '{"detail": "No such model"}', {}, "NOT_CONFIGURED", False, "No such model"),
        (307, "", {"Location": "http://example.com/"}, "NOT_CONFIGURED", False, "redirects"),
        (413, "Too large", {}, "FAILED", True, "413: Too large"),
        (400, '{"error": "Bad file."}', {}, "FAILED", True, "Bad file."),
        (429, "", {"Retry-After": "7"}, "FAILED", False, "429"),
        (503, "<html>", {}, "FAILED", False, "503"),
        (200, "<html>", {}, "FAILED", False, "not JSON"),
        (200, '{"text": "Ja."}', {}, "FAILED", True, "verbose_json"),
        (200, GARBAGE, {}, "FAILED", False, "without a start"),
    ],
)
async def test_each_error_says_what_to_do_and_whether_it_is_tried_again(
    stand_in: TranscriptionStandIn,
    audio: Path,
    status: int,
    body: str,
    headers: dict[str, str],
    reason: str,
    final: bool,
    words: str,
) -> None:
    stand_in.answers.append((status, body, headers))

    with pytest.raises(Failure) as refused:
        await hear(settings_for(stand_in), audio)

    failure = refused.value
    assert reason_name(failure.reason) == f"TRANSCRIPTION_{reason}"
    assert failure.final == final
    assert words in failure.message
    assert KEY not in f"{failure!r} {failure.__cause__!r}"
    wanted = timedelta(seconds=int(headers.get("Retry-After", 1)))
    assert failure.retry_after == wanted


async def test_an_endpoint_that_cannot_be_reached_is_tried_again(
    audio: Path, closed_port: int
) -> None:
    settings = Settings(
        transcription_url=f"http://127.0.0.1:{closed_port}/", egress_allow="127.0.0.0/8"
    )
    with pytest.raises(Failure, match="refused the connection") as refused:
        await hear(settings, audio)

    assert reason_name(refused.value.reason) == "TRANSCRIPTION_FAILED"
    assert refused.value.transient
    assert not refused.value.final


async def test_doctor_says_whether_the_endpoint_accepts_requests(
    stand_in: TranscriptionStandIn,
) -> None:
    (fine,) = await check_transcription(settings_for(stand_in))
    (refused,) = await check_transcription(settings_for(stand_in, allow=""))

    assert await check_transcription(Settings()) == []
    assert (fine.level, refused.level) == (Level.OK, Level.PROBLEM)
    assert "INGOT_EGRESS_ALLOW" in refused.message
    assert not stand_in.asked
