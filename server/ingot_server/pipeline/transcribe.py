"""Makes a transcript of a stored media item.

    subtitles:  side file -> cues -> segments
    sound:      blob into scratch -> MP3 of 20 minutes -> endpoint -> segments, and so on

A long recording is sent in parts, because endpoints take 25 MB and need minutes for an hour.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from google.protobuf.duration_pb2 import Duration

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, SideFile
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.recipes import canonical_recipe
from ingot_server.library.transcript_origin import transcript_subtitles
from ingot_server.log_events import Event
from ingot_server.pipeline.conversion_input import source_file
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transcode.ffmpeg_run import OnProgress, TranscodeProgress
from ingot_server.transcode.plan import Plan, plan_conversion
from ingot_server.transcode.tags import Tags
from ingot_server.transcode.targets import TimeRange
from ingot_server.transcode.transcoder import Transcoded
from ingot_server.transcription.endpoint import Heard, TranscriptionEndpoint, connected_endpoint
from ingot_server.transcription.transcript import Segment, Transcript, subtitle_segments, within

logger = EventLogger(__name__)

PART_SECONDS: Final = 1200.0
"""The longest sound that is sent at once: 4.8 MB."""
# What models hear; more only takes longer.
_SPEECH: Final = Recipe.Mp3(bitrate_kbps=32, sample_rate_hz=16000, channels=1)
# Encoding a part is this much of its time; the rest is the endpoint's.
_ENCODING_SHARE: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 60.0


async def make_transcript(
    context: WorkerContext, plan: Plan, job: Job, folder: Path, on_progress: OnProgress
) -> Transcoded:
    """Make the transcript that the job's recipe describes, in `folder`, and return it.

    Safe to repeat, and to cancel. Raises Failure: what `transcript_subtitles`, the endpoint,
    `source_file` and the transcoder raise, and CONVERSION_FAILED for subtitles without a text.
    """
    recipe = job.recipes[0]
    subtitles = transcript_subtitles(recipe, plan.media, context.settings)
    if subtitles is not None:
        transcript = await _from_subtitles(context, subtitles, plan.time_range)
    else:
        transcript = await _from_sound(context, plan, job, folder, on_progress)
    is_json = recipe.transcript.encoding == Recipe.Transcript.ENCODING_JSON
    content = (transcript.json() if is_json else transcript.text()).encode()
    path = folder / f"transcript{plan.format.extension}"
    await asyncio.to_thread(path.write_bytes, content)
    made = Media(format_name=plan.format.container)
    made.duration.SetInParent()
    made.blob.content_type = plan.format.content_type
    made.blob.size_bytes = len(content)
    return Transcoded(path, made)


async def _from_subtitles(
    context: WorkerContext, subtitles: SideFile, part: TimeRange
) -> Transcript:
    content = bytearray()
    key = context.blobs.key(subtitles.url)
    async for data in context.blobs.read_object(key, offset=0, limit=subtitles.size_bytes):
        content += data
    segments = await asyncio.to_thread(subtitle_segments, bytes(content))
    if not segments:
        raise Failure(
            reason_pb2.REASON_CONVERSION_FAILED,
            f"The subtitles in `{subtitles.language}` have no text. Set the recipe's "
            "transcript.language to another one, or its transcript.origin to ORIGIN_SOUND.",
        )
    return Transcript(
        tuple(within(segments, part.start, part.length)),
        part.length,
        subtitles.language,
        "subtitles",
        subtitles.automatic,
    )


async def _from_sound(
    context: WorkerContext, plan: Plan, job: Job, folder: Path, on_progress: OnProgress
) -> Transcript:
    whole, language = plan.time_range, job.recipes[0].transcript.language
    clock = asyncio.get_running_loop().time
    segments: list[Segment] = []
    async with (
        connected_endpoint(context.settings, job.id) as endpoint,
        source_file(context, plan, job, folder, on_progress) as source,
    ):
        began = clock()

        def report(done: float) -> None:
            speed = done / max(clock() - began, 0.001)
            on_progress(TranscodeProgress(done, whole.length, speed))

        for start, length in parts_of(whole.length):

            def report_encoded(progress: TranscodeProgress, start: float = start) -> None:
                report(start + _ENCODING_SHARE * progress.done_seconds)

            part = replace(whole, start=whole.start + start, length=length)
            audio = await _encode(context, plan.media, part, source.path, folder, report_encoded)
            heard = await _heard_in(context, endpoint, audio, language, length)
            audio.unlink()
            segments += (
                Segment(start + each.start, start + each.end, each.text) for each in heard.segments
            )
            language = language or heard.language
            report(start + length)
    return Transcript(
        tuple(segments),
        whole.length,
        language,
        "sound",
        automatic=True,
        model=context.settings.transcription_model,
    )


def parts_of(seconds: float) -> Iterator[tuple[float, float]]:
    """Yield the start and the length of parts of equal length, which are short enough to send."""
    count = max(1, math.ceil(seconds / PART_SECONDS))
    for number in range(count):
        yield seconds * number / count, seconds / count


async def _encode(
    context: WorkerContext,
    media: Media,
    part: TimeRange,
    source: Path,
    folder: Path,
    on_progress: OnProgress,
) -> Path:
    """Return an MP3 file with the sound of one part."""
    recipe = canonical_recipe(
        Recipe(
            mp3=_SPEECH,
            start_offset=_duration(part.start),
            end_offset=_duration(part.start + part.length),
        )
    )
    made = await context.transcoder.transcode(
        plan_conversion(recipe, media), source, folder, Tags(), on_progress=on_progress
    )
    return made.path


async def _heard_in(
    context: WorkerContext,
    endpoint: TranscriptionEndpoint,
    audio: Path,
    language: str,
    seconds: float,
) -> Heard:
    """Return what the endpoint hears. It is asked again here, so that earlier parts are not lost.

    That is done as often as a job is run, unless the endpoint wants to wait for too long.
    """
    settings = context.settings
    for attempt in itertools.count(1):
        try:
            return await endpoint.transcribe(audio, language=language, seconds=seconds)
        except Failure as failure:
            wait = max(settings.retry_backoff * 2 ** (attempt - 1), failure.retry_after)
            if (
                failure.final
                or not failure.transient
                or attempt >= settings.attempts
                or wait.total_seconds() > _LONGEST_WAIT_SECONDS
            ):
                raise
            logger.warning(
                Event.TRANSCRIPTION_WAITS,
                "%s It is asked again in %s.",
                failure.message,
                wait,
                reason=failure.reason,
            )
            await asyncio.sleep(wait.total_seconds())
    raise AssertionError("the attempts are counted")


def _duration(seconds: float) -> Duration:
    made = Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made
