"""Makes one file of another, on the disk: loudness, ffmpeg, tags, and the gate, in this order.

    measure (normalize_loudness) -> convert -> tags -> probe and verify

Nothing here knows jobs, storage or networks. What leaves by an error leaves files in the directory,
which is the caller's to remove.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.library.playable import is_web_playable
from ingot_server.pipeline.conversion.commands import (
    CONTENT_TYPES,
    EXTENSIONS,
    Loudness,
    convert_arguments,
    last_picture_arguments,
    measure_arguments,
    waveform_arguments,
    waveform_rate,
)
from ingot_server.pipeline.conversion.cover import read_cover
from ingot_server.pipeline.conversion.loudness import read_loudness
from ingot_server.pipeline.conversion.tags import (
    WRITTEN_BY_FFMPEG,
    Tags,
    ffmetadata,
    tags_of,
    write_tags,
)
from ingot_server.pipeline.conversion.target import PICTURES, copies_audio, copies_video, span
from ingot_server.pipeline.conversion.verify import (
    picture_size,
    verify_media,
    verify_picture,
    verify_waveform,
)
from ingot_server.pipeline.conversion.waveform import Waveform
from ingot_server.pipeline.ffmpeg import STANDARD_INPUT, Ffmpeg, Moment, Ran
from ingot_server.pipeline.probe import Prober

logger = logging.getLogger(__name__)

_PICTURE_TYPES: Final = {
    Recipe.FORMAT_PNG: ("png", "rgb24"),
    Recipe.FORMAT_JPEG: ("mjpeg", "yuvj420p"),
}
_NAME: Final = "made"


@dataclass(frozen=True, slots=True)
class Made:
    """A file that passed the gate, and what it is: as Prober says, with its size and media type."""

    path: Path
    media: Media


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


def _unheard(_done: float, _total: float, _speed: float, /) -> None: ...


async def make(
    recipe: Recipe,
    media: Media,
    source: Path | BinaryIO,
    directory: Path,
    *,
    ffmpeg: Ffmpeg,
    prober: Prober,
    progress: Advance = _unheard,
    check: Callable[[], None] = lambda: None,
    cover: Path | None = None,
    album: str = "",
    encoded: Encoded | None = None,
    ready: Callable[[Path], None] = lambda _: None,
) -> Made:
    """Makes what a canonical `recipe` says of `media`, whose file is `source`, in `directory`.

    `media` has what a probe says, for a file that comes by a reader too: that one is read once,
    from its beginning to its end, so `takes_reader` must hold. `check` is called while it works and
    may raise. `cover` is a picture, left out when it cannot be used; `album` the name of what the
    media is one of. What was `encoded` of the same bytes by the same command is not made again,
    unless it is not right. `ready` is told of a file that is about to go through the gate, and of
    another when that one was refused. Safe to repeat in another directory, and to cancel. Raises
    Failure CONVERSION_FAILED, CONVERTER_CRASHED, SCRATCH_FULL, STAGE_TIMEOUT or TOO_LARGE, and what
    the reader raises.
    """
    making = _Making(recipe, media, source, directory, ffmpeg, progress, check, ready)
    if recipe.format in PICTURES:
        return await making.picture()
    if recipe.format == Recipe.FORMAT_WAVEFORM:
        return await making.waveform()
    picture = await read_cover(cover, directory, ffmpeg) if cover is not None else b""
    tags = tags_of(recipe, media, album=album, cover=picture)
    return await making.convert(tags, prober, encoded)


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
    progress: Advance = _unheard,
    check: Callable[[], None] = lambda: None,
) -> Encoded:
    """The first half of `make`, for media that is known from the head of its file only."""
    return await _Making(recipe, media, source, directory, ffmpeg, progress, check).encode()


def takes_reader(recipe: Recipe) -> bool:
    """Whether the source is read once from its beginning, so that a reader will do."""
    return not (
        recipe.normalize_loudness
        or recipe.HasField("start")
        or recipe.format in {*PICTURES, Recipe.FORMAT_MP4}
    )


class _Making:
    """One call of `make`."""

    def __init__(
        self,
        recipe: Recipe,
        media: Media,
        source: Path | BinaryIO,
        directory: Path,
        ffmpeg: Ffmpeg,
        progress: Advance,
        check: Callable[[], None],
        ready: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self._recipe = recipe
        self._media = media
        self._reader = None if isinstance(source, Path) else source
        self._source = f"file:{source}" if isinstance(source, Path) else STANDARD_INPUT
        self._directory = directory
        self._output = directory / f"{_NAME}{EXTENSIONS[recipe.format]}"
        self._ffmpeg = ffmpeg
        self._progress = progress
        self._check = check
        self._ready = ready
        self._length = span(recipe, media).length
        self._passes = 2 if recipe.normalize_loudness else 1
        self._pass = 0

    async def encode(self) -> Encoded:
        ran = await self._run(self._arguments(self._source, self._output))
        return Encoded(self._output, self._media, ran.seconds)

    async def convert(self, tags: Tags, prober: Prober, encoded: Encoded | None) -> Made:
        if encoded is not None and self._is_same(encoded):
            await asyncio.to_thread(encoded.path.replace, self._output)
            try:
                return await self._finished(tags, prober, encoded.seconds)
            except Failure as failure:
                # Of a file whose index comes last ffmpeg makes nothing, and reports no error.
                if failure.reason != reason_pb2.REASON_CONVERSION_FAILED or self._reader:
                    raise
                logger.info("making again, of the whole file: %s", failure.message)
        loudness = await self._loudness() if self._recipe.normalize_loudness else None
        metadata = self._metadata(tags)
        try:
            return await self._converted(tags, prober, loudness, metadata, encode=False)
        except Failure as failure:
            # A stream that claims to be right as it is may not fit into MP4: it is encoded then.
            if failure.reason != reason_pb2.REASON_CONVERSION_FAILED or not self._copies():
                raise
            logger.info("encoding what cannot be copied: %s", failure.message)
        return await self._converted(tags, prober, loudness, metadata, encode=True)

    async def picture(self) -> Made:
        recipe, media = self._recipe, self._media
        threads = self._ffmpeg.threads
        arguments = convert_arguments(recipe, media, self._source, self._output, threads=threads)
        await self._run(arguments)
        if picture_size(self._output, recipe.format) is None:
            await self._run(
                last_picture_arguments(recipe, media, self._source, self._output, threads=threads)
            )
        self._ready(self._output)
        width, height = await asyncio.to_thread(verify_picture, recipe, media, self._output)
        codec, pixels = _PICTURE_TYPES[recipe.format]
        made = Media(format_name="image2")
        made.duration.SetInParent()
        made.video.add(codec=codec, width=width, height=height, pixel_format=pixels)
        made.blob.content_type = CONTENT_TYPES[recipe.format]
        return self._made(made)

    async def waveform(self) -> Made:
        recipe, media = self._recipe, self._media
        drawn = Waveform(
            sample_rate_hz=waveform_rate(recipe, media), points_per_second=recipe.points_per_second
        )
        began = asyncio.get_running_loop().time()

        def take(samples: bytes) -> None:
            drawn.add(samples)
            elapsed = asyncio.get_running_loop().time() - began
            self._advance(Moment(drawn.seconds, drawn.seconds / elapsed if elapsed > 0 else 0.0))

        threads = self._ffmpeg.threads
        await self._run(waveform_arguments(recipe, media, self._source, threads), take=take)
        await asyncio.to_thread(self._output.write_bytes, drawn.dumps())
        self._ready(self._output)
        await asyncio.to_thread(verify_waveform, recipe, media, self._output)
        made = Media(format_name="json")
        made.duration.SetInParent()
        made.blob.content_type = CONTENT_TYPES[recipe.format]
        return self._made(made)

    async def _loudness(self) -> Loudness | None:
        threads = self._ffmpeg.threads
        arguments = measure_arguments(self._recipe, self._media, self._source, threads)
        ran = await self._run(arguments, level="info")
        self._pass += 1
        return read_loudness(ran.log)

    async def _converted(
        self,
        tags: Tags,
        prober: Prober,
        loudness: Loudness | None,
        metadata: Path | None,
        *,
        encode: bool,
    ) -> Made:
        ran = await self._run(
            self._arguments(
                self._source, self._output, loudness=loudness, metadata=metadata, encode=encode
            )
        )
        return await self._finished(tags, prober, ran.seconds)

    def _arguments(
        self,
        source: str,
        output: Path,
        *,
        media: Media | None = None,
        loudness: Loudness | None = None,
        metadata: Path | None = None,
        encode: bool = False,
    ) -> list[str]:
        return convert_arguments(
            self._recipe,
            media or self._media,
            source,
            output,
            loudness=loudness,
            metadata=metadata,
            encode=encode,
            threads=self._ffmpeg.threads,
        )

    def _is_same(self, encoded: Encoded) -> bool:
        """Whether what was known before led to the command that the whole file asks for."""
        early = self._arguments(STANDARD_INPUT, encoded.path, media=encoded.media)
        return early == self._arguments(STANDARD_INPUT, encoded.path)

    async def _finished(self, tags: Tags, prober: Prober, seconds: float) -> Made:
        """Tags, and the gate."""
        recipe, media = self._recipe, self._media
        await asyncio.to_thread(write_tags, self._output, recipe, tags)
        self._ready(self._output)
        try:
            made = await prober.probe(self._output)
        except Failure as failure:
            if failure.reason not in {reason_pb2.REASON_NOT_MEDIA, reason_pb2.REASON_TRUNCATED}:
                raise
            raise Failure(
                reason_pb2.REASON_CONVERSION_FAILED,
                f"What ffmpeg made is not right: {failure.message}",
            ) from failure
        verify_media(recipe, media, made, self._output, seconds)
        return self._made(made)

    def _copies(self) -> bool:
        recipe, media = self._recipe, self._media
        if recipe.format != Recipe.FORMAT_MP4 or self._reader is not None:
            return False
        return copies_video(recipe, media) or bool(media.audio and copies_audio(recipe, media))

    def _metadata(self, tags: Tags) -> Path | None:
        if self._recipe.format not in WRITTEN_BY_FFMPEG:
            return None
        path = self._directory / "metadata.txt"
        path.write_text(ffmetadata(tags), encoding="utf-8")
        return path

    async def _run(
        self,
        arguments: list[str],
        *,
        level: str = "error",
        take: Callable[[bytes], None] | None = None,
    ) -> Ran:
        return await self._ffmpeg.run(
            arguments,
            output=self._output,
            source=self._reader,
            level=level,
            moments=self._advance,
            take=take,
            check=self._check,
        )

    def _advance(self, moment: Moment) -> None:
        total = self._length * self._passes
        done = self._length * self._pass + min(moment.seconds, self._length)
        self._progress(done, total, moment.speed)

    def _made(self, made: Media) -> Made:
        made.blob.size_bytes = self._output.stat().st_size
        made.web_playable = is_web_playable(made)
        return Made(self._output, made)
