"""ffmpeg's part of one conversion: its commands, and the progress of all its passes together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from ingot_server.transcode.commands import convert_arguments
from ingot_server.transcode.ffmpeg import STANDARD_INPUT, Ffmpeg, FfmpegProgress, FfmpegResult
from ingot_server.transcode.loudness import Loudness
from ingot_server.transcode.plan import Plan


@dataclass(frozen=True, slots=True)
class TranscodeProgress:
    """How far a conversion is."""

    done_seconds: float
    total_seconds: float
    """Of the result, in all passes."""
    speed: float
    """How many seconds are done in one second."""


OnProgress = Callable[[TranscodeProgress], None]


def ignore_progress(_: TranscodeProgress) -> None:
    """Take a progress report that is not of interest."""


@dataclass(frozen=True, slots=True)
class EncodedFile:
    """A file that ffmpeg made of a stream. It has no tags yet, and is not validated."""

    path: Path
    plan: Plan
    """Made from what the head of the source said."""
    seconds: float
    """How many ffmpeg says it wrote, 0 if it did not say."""


class FfmpegRun:
    """The commands that make the one file at `output`, executed one after another."""

    def __init__(
        self,
        plan: Plan,
        source: Path | BinaryIO,
        directory: Path,
        ffmpeg: Ffmpeg,
        on_progress: OnProgress,
        check: Callable[[], None],
    ) -> None:
        """`source` is a file, or a stream that is read once."""
        self.plan = plan
        self.stream = None if isinstance(source, Path) else source
        self._file = source if isinstance(source, Path) else None
        self.source = f"file:{source}" if isinstance(source, Path) else STANDARD_INPUT
        """What ffmpeg calls the source."""
        self.output = directory / f"result{plan.format.extension}"
        self.threads = ffmpeg.threads
        self._ffmpeg = ffmpeg
        self._on_progress = on_progress
        self._check = check
        self._passes = 2 if plan.normalizes_loudness else 1
        self._passes_done = 0

    def convert_arguments(
        self,
        *,
        loudness: Loudness | None = None,
        metadata: Path | None = None,
        encode: bool = False,
    ) -> list[str]:
        """Return the command that makes the result; for the options see commands.py."""
        return convert_arguments(
            self.plan,
            self.source,
            self.output,
            loudness=loudness,
            metadata=metadata,
            encode=encode,
            threads=self.threads,
        )

    def would_repeat(self, encoded: EncodedFile) -> bool:
        """Return whether the command for the whole source is the one that made `encoded`.

        The head of a source may have told another length. That does not matter if the source ended
        the result; if the result is too short, validation says so.
        """
        head = encoded.plan
        if head.ends_with_source and self.plan.ends_with_source:
            length = self.plan.time_range.length
            head = replace(head, time_range=replace(head.time_range, length=length))

        def command(plan: Plan) -> list[str]:
            return convert_arguments(plan, STANDARD_INPUT, encoded.path, threads=self.threads)

        return command(head) == command(self.plan)

    async def run_command(
        self,
        arguments: list[str],
        *,
        log_level: str = "error",
        on_stdout: Callable[[bytes], None] | None = None,
    ) -> FfmpegResult:
        """Run one command on the source. Raises what `Ffmpeg.run_command` raises."""
        return await self._ffmpeg.run_command(
            arguments,
            source=self._file,
            output=self.output,
            stdin=self.stream,
            log_level=log_level,
            on_progress=self.report_progress,
            on_stdout=on_stdout,
            check=self._check,
        )

    def end_pass(self) -> None:
        """Count what comes next as another pass over the source."""
        self._passes_done += 1

    def report_progress(self, progress: FfmpegProgress) -> None:
        """Report the progress of one command as a part of all passes."""
        length = self.plan.time_range.length
        done = length * self._passes_done + min(progress.seconds, length)
        self._on_progress(TranscodeProgress(done, length * self._passes, progress.speed))
