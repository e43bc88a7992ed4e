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
from typing import BinaryIO, Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.library.playable import is_web_playable
from ingot_server.probe.prober import Prober
from ingot_server.transcode.commands import (
    CONTENT_TYPES,
    Loudness,
    last_picture_arguments,
    measure_arguments,
    waveform_arguments,
    waveform_rate,
)
from ingot_server.transcode.ffmpeg import Ffmpeg, Moment
from ingot_server.transcode.ffmpeg_run import Advance, Encoded, Encoding, unheard
from ingot_server.transcode.loudness import read_loudness
from ingot_server.transcode.plan import PICTURES, copies_audio, copies_video
from ingot_server.transcode.tags import (
    WRITTEN_BY_FFMPEG,
    Tags,
    ffmetadata,
    tags_of,
    write_tags,
)
from ingot_server.transcode.verify import (
    picture_size,
    verify_media,
    verify_picture,
    verify_waveform,
)
from ingot_server.transcode.waveform import Waveform

logger = logging.getLogger(__name__)

_PICTURE_TYPES: Final = {
    Recipe.FORMAT_PNG: ("png", "rgb24"),
    Recipe.FORMAT_JPEG: ("mjpeg", "yuvj420p"),
}


@dataclass(frozen=True, slots=True)
class Transcoded:
    """A file that passed the gate, and what it is: as Prober says, with its size and media type."""

    path: Path
    media: Media


async def make(
    recipe: Recipe,
    media: Media,
    source: Path | BinaryIO,
    directory: Path,
    *,
    ffmpeg: Ffmpeg,
    prober: Prober,
    progress: Advance = unheard,
    check: Callable[[], None] = lambda: None,
    cover: bytes = b"",
    album: str = "",
    encoded: Encoded | None = None,
    ready: Callable[[Path], None] = lambda _: None,
) -> Transcoded:
    """Makes what a canonical `recipe` says of `media`, whose file is `source`, in `directory`.

    `media` has what a probe says, for a file that comes by a reader too: that one is read once,
    from its beginning to its end, so `takes_reader` must hold. `check` is called while it works and
    may raise. `cover` is what `read_cover` answers; `album` the name of what the media is one of.
    What was `encoded` of the same bytes by the same command is not made again, unless it is not
    right. `ready` is told of a file that is about to go through the gate, and of another when that
    one was refused. Safe to repeat in another directory, and to cancel. Raises
    Failure CONVERSION_FAILED, CONVERTER_CRASHED, SCRATCH_FULL, STAGE_TIMEOUT or TOO_LARGE, and what
    the reader raises.
    """
    encoding = Encoding(recipe, media, source, directory, ffmpeg, progress, check)
    making = _Transcoding(recipe, media, encoding, ready)
    if recipe.format in PICTURES:
        return await making.picture()
    if recipe.format == Recipe.FORMAT_WAVEFORM:
        return await making.waveform()
    tags = tags_of(recipe, media, album=album, cover=cover)
    return await making.convert(tags, prober, encoded, _metadata(recipe, tags, directory))


class _Transcoding:
    """One call of `make`."""

    def __init__(
        self, recipe: Recipe, media: Media, encoding: Encoding, ready: Callable[[Path], None]
    ) -> None:
        self._recipe = recipe
        self._media = media
        self._encoding = encoding
        self._output = encoding.output
        self._ready = ready

    async def convert(
        self, tags: Tags, prober: Prober, encoded: Encoded | None, metadata: Path | None
    ) -> Transcoded:
        if encoded is not None and self._encoding.is_same(encoded):
            await asyncio.to_thread(encoded.path.replace, self._output)
            try:
                return await self._finished(tags, prober, encoded.seconds)
            except Failure as failure:
                # Of a file whose index comes last ffmpeg makes nothing, and reports no error.
                if failure.reason != reason_pb2.REASON_CONVERSION_FAILED or self._encoding.reader:
                    raise
                logger.info("making again, of the whole file: %s", failure.message)
        loudness = await self._loudness() if self._recipe.normalize_loudness else None
        try:
            return await self._converted(tags, prober, loudness, metadata, encode=False)
        except Failure as failure:
            # A stream that claims to be right as it is may not fit into MP4: it is encoded then.
            if failure.reason != reason_pb2.REASON_CONVERSION_FAILED or not self._copies():
                raise
            logger.info("encoding what cannot be copied: %s", failure.message)
        return await self._converted(tags, prober, loudness, metadata, encode=True)

    async def picture(self) -> Transcoded:
        recipe, media, encoding = self._recipe, self._media, self._encoding
        await encoding.run(encoding.arguments())
        if picture_size(self._output, recipe.format) is None:
            source, threads = encoding.source, encoding.threads
            await encoding.run(
                last_picture_arguments(recipe, media, source, self._output, threads=threads)
            )
        self._ready(self._output)
        width, height = await asyncio.to_thread(verify_picture, recipe, media, self._output)
        codec, pixels = _PICTURE_TYPES[recipe.format]
        made = Media(format_name="image2")
        made.duration.SetInParent()
        made.video.add(codec=codec, width=width, height=height, pixel_format=pixels)
        made.blob.content_type = CONTENT_TYPES[recipe.format]
        return self._made(made)

    async def waveform(self) -> Transcoded:
        recipe, media, encoding = self._recipe, self._media, self._encoding
        drawn = Waveform(
            sample_rate_hz=waveform_rate(recipe, media), points_per_second=recipe.points_per_second
        )
        began = asyncio.get_running_loop().time()

        def take(samples: bytes) -> None:
            drawn.add(samples)
            elapsed = asyncio.get_running_loop().time() - began
            encoding.advance(Moment(drawn.seconds, drawn.seconds / elapsed if elapsed > 0 else 0.0))

        await encoding.run(
            waveform_arguments(recipe, media, encoding.source, encoding.threads), take=take
        )
        await asyncio.to_thread(self._output.write_bytes, drawn.dumps())
        self._ready(self._output)
        await asyncio.to_thread(verify_waveform, recipe, media, self._output)
        made = Media(format_name="json")
        made.duration.SetInParent()
        made.blob.content_type = CONTENT_TYPES[recipe.format]
        return self._made(made)

    async def _loudness(self) -> Loudness | None:
        encoding = self._encoding
        ran = await encoding.run(
            measure_arguments(self._recipe, self._media, encoding.source, encoding.threads),
            level="info",
        )
        encoding.end_pass()
        return read_loudness(ran.log)

    async def _converted(
        self,
        tags: Tags,
        prober: Prober,
        loudness: Loudness | None,
        metadata: Path | None,
        *,
        encode: bool,
    ) -> Transcoded:
        ran = await self._encoding.run(
            self._encoding.arguments(loudness=loudness, metadata=metadata, encode=encode)
        )
        return await self._finished(tags, prober, ran.seconds)

    async def _finished(self, tags: Tags, prober: Prober, seconds: float) -> Transcoded:
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
        if recipe.format != Recipe.FORMAT_MP4 or self._encoding.reader is not None:
            return False
        return copies_video(recipe, media) or bool(media.audio and copies_audio(recipe, media))

    def _made(self, made: Media) -> Transcoded:
        made.blob.size_bytes = self._output.stat().st_size
        made.web_playable = is_web_playable(made)
        return Transcoded(self._output, made)


def _metadata(recipe: Recipe, tags: Tags, directory: Path) -> Path | None:
    """The tags as a file for ffmpeg, for the formats whose tags it writes."""
    if recipe.format not in WRITTEN_BY_FFMPEG:
        return None
    path = directory / "metadata.txt"
    path.write_text(ffmetadata(tags), encoding="utf-8")
    return path
