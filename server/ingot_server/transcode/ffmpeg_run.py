"""ffmpeg's part of a conversion: its commands run for one result, and how far they all are.

`encode` is that part by itself, for a file that still comes; `making.py` is the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.transcode.commands import EXTENSIONS, Loudness, convert_arguments
from ingot_server.transcode.ffmpeg import STANDARD_INPUT, Ffmpeg, Moment, Ran
from ingot_server.transcode.plan import PICTURES, span
from ingot_server.transcode.tags import WRITTEN_BY_FFMPEG

_NAME: Final = "made"


class Advance(Protocol):
    """Is told seconds done, of how many in all passes, and how many are done in one second."""

    def __call__(self, done: float, total: float, speed: float, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """What ffmpeg alone made of a reader, before tags and the gate."""

    path: Path
    media: Media
    """As it was known then."""
    seconds: float


def unheard(_done: float, _total: float, _speed: float, /) -> None:
    """An Advance that tells nobody."""


def takes_reader(recipe: Recipe) -> bool:
    """Whether the source is read once from its beginning, so that a reader will do."""
    return not (
        recipe.normalize_loudness
        or recipe.HasField("start")
        or recipe.format in {*PICTURES, Recipe.FORMAT_MP4}
    )


def can_begin_early(recipe: Recipe) -> bool:
    """Whether `encode` can make it: a reader will do, and tags are written afterwards."""
    return takes_reader(recipe) and recipe.format not in {
        *WRITTEN_BY_FFMPEG,
        Recipe.FORMAT_WAVEFORM,
    }


async def encode(
    recipe: Recipe,
    media: Media,
    source: BinaryIO,
    directory: Path,
    *,
    ffmpeg: Ffmpeg,
    progress: Advance = unheard,
    check: Callable[[], None] = lambda: None,
) -> Encoded:
    """The first half of `make`, for media that is known from the head of its file only."""
    encoding = Encoding(recipe, media, source, directory, ffmpeg, progress, check)
    ran = await encoding.run(encoding.arguments())
    return Encoded(encoding.output, media, ran.seconds)


class Encoding:
    """Runs ffmpeg, as often as it takes, for the one file at `output`."""

    def __init__(
        self,
        recipe: Recipe,
        media: Media,
        source: Path | BinaryIO,
        directory: Path,
        ffmpeg: Ffmpeg,
        progress: Advance,
        check: Callable[[], None],
    ) -> None:
        """`source` is a file, or what is read once; the rest is as `make` has it."""
        self.reader = None if isinstance(source, Path) else source
        self.source = f"file:{source}" if isinstance(source, Path) else STANDARD_INPUT
        """As ffmpeg names it."""
        self.output = directory / f"{_NAME}{EXTENSIONS[recipe.format]}"
        self.threads = ffmpeg.threads
        self._recipe = recipe
        self._media = media
        self._ffmpeg = ffmpeg
        self._progress = progress
        self._check = check
        self._length = span(recipe, media).length
        self._passes = 2 if recipe.normalize_loudness else 1
        self._passed = 0

    def arguments(
        self,
        *,
        loudness: Loudness | None = None,
        metadata: Path | None = None,
        encode: bool = False,
    ) -> list[str]:
        """The command that makes the result, as `convert_arguments` has it."""
        return convert_arguments(
            self._recipe,
            self._media,
            self.source,
            self.output,
            loudness=loudness,
            metadata=metadata,
            encode=encode,
            threads=self.threads,
        )

    def is_same(self, encoded: Encoded) -> bool:
        """Whether what was known before led to the command that the whole file asks for."""

        def command(media: Media) -> list[str]:
            return convert_arguments(
                self._recipe, media, STANDARD_INPUT, encoded.path, threads=self.threads
            )

        return command(encoded.media) == command(self._media)

    async def run(
        self,
        arguments: list[str],
        *,
        level: str = "error",
        take: Callable[[bytes], None] | None = None,
    ) -> Ran:
        """One run, with progress where it is told any. Raises as `Ffmpeg.run` does."""
        return await self._ffmpeg.run(
            arguments,
            output=self.output,
            source=self.reader,
            level=level,
            moments=self.advance,
            take=take,
            check=self._check,
        )

    def end_pass(self) -> None:
        """All of the media was gone through once; the next run does it again."""
        self._passed += 1

    def advance(self, moment: Moment) -> None:
        """Tells how far the run is, as part of all passes."""
        total = self._length * self._passes
        done = self._length * self._passed + min(moment.seconds, self._length)
        self._progress(done, total, moment.speed)
