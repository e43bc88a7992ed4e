"""Makes one file of another, on the disk.

    measure the loudness (normalize_loudness) -> convert -> write tags -> probe and verify

This module knows nothing of jobs, storage or networks. After an error, files may be left in the
directory; the caller removes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.playable import is_web_playable
from ingot_server.library.storyboard_index import webvtt
from ingot_server.library.storyboards import tiles
from ingot_server.log_events import Event
from ingot_server.probe.prober import Prober
from ingot_server.transcode.commands import (
    last_image_arguments,
    measure_arguments,
    storyboard_arguments,
    waveform_arguments,
)
from ingot_server.transcode.decoding_limits import check_decoding
from ingot_server.transcode.ffmpeg import Ffmpeg, FfmpegProgress
from ingot_server.transcode.ffmpeg_run import (
    EncodedFile,
    FfmpegRun,
    OnProgress,
    ignore_progress,
)
from ingot_server.transcode.loudness import Loudness, read_loudness
from ingot_server.transcode.plan import Plan, tags_by_ffmpeg
from ingot_server.transcode.tags import Tags, ffmetadata, write_tags
from ingot_server.transcode.targets import ImageTarget, StoryboardTarget, WaveformTarget
from ingot_server.transcode.verify import (
    image_size,
    verify_image,
    verify_media,
    verify_sheets,
    verify_waveform,
)
from ingot_server.transcode.waveform import Waveform

logger = EventLogger(__name__)


@dataclass(frozen=True, slots=True)
class Transcoded:
    """A file that passed validation; `media` is what the prober reports, with size and type."""

    path: Path
    media: Media
    sheets: tuple[Path, ...] = ()
    """The sheets of a storyboard, in the order of their numbers."""


class Transcoder:
    """Makes results with ffmpeg and validates them. Keeps nothing from one to the next."""

    def __init__(
        self, ffmpeg: Ffmpeg, prober: Prober, *, check: Callable[[], None] = lambda: None
    ) -> None:
        """`check` is called regularly while ffmpeg runs. What it raises ends the conversion."""
        self._ffmpeg = ffmpeg
        self._prober = prober
        self._check = check

    async def transcode(
        self,
        plan: Plan,
        source: Path | BinaryIO,
        directory: Path,
        tags: Tags,
        *,
        encoded: EncodedFile | None = None,
        on_progress: OnProgress = ignore_progress,
        on_output: Callable[[Path], None] = lambda _: None,
        sheet_name: Callable[[int], str] = "sheet-{}.jpg".format,
    ) -> Transcoded:
        """Make the result of a plan in `directory`, and return it.

        `source` is the file of the plan's media item. It can be a stream if `reads_source_once`
        holds for the recipe; then it is read from its beginning to its end. A file that was
        `encoded` from the same bytes by the same command is used, if it passes validation.
        `on_output` is called with a file that is about to be validated, and with another one if
        that was refused. `sheet_name` says how the index of a storyboard names the sheet with a
        number, from 1. Safe to repeat in another directory, and to cancel. Raises Failure
        CONVERSION_FAILED, CONVERTER_CRASHED, SCRATCH_FULL, STAGE_TIMEOUT or TOO_LARGE, and what
        the stream and `check` raise.
        """
        check_decoding(plan, self._ffmpeg.processor_time)
        run = FfmpegRun(plan, source, directory, self._ffmpeg, on_progress, self._check)
        transcoding = _Transcoding(run, self._prober, on_output)
        if plan.image is not None:
            return await transcoding.make_image(plan.image)
        if plan.waveform is not None:
            return await transcoding.draw_waveform(plan.waveform)
        if plan.storyboard is not None:
            return await transcoding.make_storyboard(plan.storyboard, directory, sheet_name)
        return await transcoding.convert_streams(tags, directory, encoded)

    async def encode_stream(
        self,
        plan: Plan,
        stream: BinaryIO,
        directory: Path,
        *,
        on_progress: OnProgress = ignore_progress,
    ) -> EncodedFile:
        """Do ffmpeg's part of `transcode` for a plan that is made from the head of a stream.

        Raises what `transcode` raises.
        """
        check_decoding(plan, self._ffmpeg.processor_time)
        run = FfmpegRun(plan, stream, directory, self._ffmpeg, on_progress, self._check)
        result = await run.run_command(run.convert_arguments())
        return EncodedFile(run.output, plan, result.seconds)


class _Transcoding:
    """One call of `Transcoder.transcode`."""

    def __init__(self, run: FfmpegRun, prober: Prober, on_output: Callable[[Path], None]) -> None:
        self._run = run
        self._plan = run.plan
        self._prober = prober
        self._output = run.output
        self._on_output = on_output

    async def convert_streams(
        self, tags: Tags, directory: Path, encoded: EncodedFile | None
    ) -> Transcoded:
        if encoded is not None and self._run.would_repeat(encoded):
            await asyncio.to_thread(encoded.path.replace, self._output)
            try:
                return await self._finish(tags, encoded.seconds)
            except Failure as failure:
                # If the index comes last, ffmpeg makes an empty file and reports no error.
                is_final = self._run.stream is not None
                if failure.reason != reason_pb2.REASON_CONVERSION_FAILED or is_final:
                    raise
                logger.info(
                    Event.CONVERSION_RESTARTED,
                    "converting again, from the whole file: %s",
                    failure.message,
                    reason=failure.reason,
                )
        metadata = _metadata_file(self._plan, tags, directory)
        loudness = await self._measure_loudness() if self._plan.normalizes_loudness else None
        try:
            return await self._convert(tags, loudness, metadata, encode=False)
        except Failure as failure:
            # A stream that seems fit to be copied may not fit into MP4; then it is encoded.
            is_final = not self._plan.copies or self._run.stream is not None
            if failure.reason != reason_pb2.REASON_CONVERSION_FAILED or is_final:
                raise
            logger.info(
                Event.CONVERSION_RESTARTED,
                "encoding streams that cannot be copied: %s",
                failure.message,
                reason=failure.reason,
            )
        return await self._convert(tags, loudness, metadata, encode=True)

    async def make_image(self, target: ImageTarget) -> Transcoded:
        run, row = self._run, self._plan.format
        await run.run_command(run.convert_arguments())
        if image_size(self._output, row.content_type) is None:
            await run.run_command(
                last_image_arguments(self._plan, run.source, self._output, run.threads)
            )
        self._on_output(self._output)
        size = await asyncio.to_thread(verify_image, self._plan, target, self._output)
        made = Media(format_name=row.container)
        made.video.add(
            codec=str(row.image_encoder["c:v"]),
            width=size.width,
            height=size.height,
            pixel_format=str(row.image_encoder["pix_fmt"]),
        )
        return self._transcoded_still(made)

    async def draw_waveform(self, target: WaveformTarget) -> Transcoded:
        run = self._run
        drawing = Waveform(
            sample_rate_hz=target.sample_rate_hz, points_per_second=target.points_per_second
        )
        clock = asyncio.get_running_loop().time
        began = clock()

        def add_samples(samples: bytes) -> None:
            drawing.add(samples)
            elapsed = clock() - began
            speed = drawing.seconds / elapsed if elapsed > 0 else 0.0
            run.report_progress(FfmpegProgress(drawing.seconds, speed))

        arguments = waveform_arguments(self._plan, run.source, run.threads)
        await run.run_command(arguments, on_stdout=add_samples)
        await asyncio.to_thread(self._output.write_bytes, drawing.dumps())
        self._on_output(self._output)
        await asyncio.to_thread(verify_waveform, self._plan, target, self._output)
        return self._transcoded_still(Media(format_name=self._plan.format.container))

    async def make_storyboard(
        self, target: StoryboardTarget, directory: Path, sheet_name: Callable[[int], str]
    ) -> Transcoded:
        run, layout, seconds = self._run, target.layout, self._plan.time_range.length
        pattern = f"{str(directory).replace('%', '%%')}/sheet-%d.jpg"
        await run.run_command(storyboard_arguments(self._plan, run.source, pattern, run.threads))
        sheets = tuple(directory / f"sheet-{number + 1}.jpg" for number in range(layout.sheets))
        await asyncio.to_thread(verify_sheets, target, sheets)
        index = webvtt(tiles(layout, target.tile.width, target.tile.height, seconds, sheet_name))
        await asyncio.to_thread(self._output.write_text, index, encoding="utf-8")
        self._on_output(self._output)
        made = self._transcoded_still(Media(format_name=self._plan.format.container))
        return replace(made, sheets=sheets)

    async def _measure_loudness(self) -> Loudness | None:
        run = self._run
        arguments = measure_arguments(self._plan, run.source, run.threads)
        result = await run.run_command(arguments, log_level="info")
        run.end_pass()
        return read_loudness(result.log)

    async def _convert(
        self, tags: Tags, loudness: Loudness | None, metadata: Path | None, *, encode: bool
    ) -> Transcoded:
        result = await self._run.run_command(
            self._run.convert_arguments(loudness=loudness, metadata=metadata, encode=encode)
        )
        return await self._finish(tags, result.seconds)

    async def _finish(self, tags: Tags, written_seconds: float) -> Transcoded:
        """Write the tags, and validate."""
        writer = self._plan.format.tag_writer
        if writer is not None:
            await asyncio.to_thread(write_tags, self._output, writer, tags)
        self._on_output(self._output)
        try:
            made = await self._prober.probe(self._output)
        except Failure as failure:
            if failure.reason not in {reason_pb2.REASON_NOT_MEDIA, reason_pb2.REASON_TRUNCATED}:
                raise
            raise Failure(
                reason_pb2.REASON_CONVERSION_FAILED,
                f"The result of ffmpeg is not valid: {failure.message}",
            ) from failure
        verify_media(self._plan, made, self._output, written_seconds)
        return self._transcoded(made)

    def _transcoded_still(self, made: Media) -> Transcoded:
        """Complete what no prober describes: it has a duration of zero."""
        made.duration.SetInParent()
        made.blob.content_type = self._plan.format.content_type
        return self._transcoded(made)

    def _transcoded(self, made: Media) -> Transcoded:
        made.blob.size_bytes = self._output.stat().st_size
        made.web_playable = is_web_playable(made)
        return Transcoded(self._output, made)


def _metadata_file(plan: Plan, tags: Tags, directory: Path) -> Path | None:
    """Write the tags for ffmpeg, for the formats whose tags it writes."""
    if not tags_by_ffmpeg(plan.format):
        return None
    path = directory / "metadata.txt"
    path.write_text(ffmetadata(tags), encoding="utf-8")
    return path
