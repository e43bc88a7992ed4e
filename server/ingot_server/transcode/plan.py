"""What a recipe makes of one media, in numbers: decided once, for the command and for the check.

- Of several audio streams the first that the file marks as default and not as commentary or for
  the impaired is taken, else the first; of several video streams the first.
- A result begins at the media's beginning, or at `start`, also where the sound begins later: then
  silence is put before it. Sound taken from a media with other streams lasts as long as the media.
  So a time in the media is the same time in what is made of all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import AudioStream, Chapter, Media, VideoStream
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.library.playable import is_common_profile
from ingot_server.library.recipes import sample_rates

PICTURES: Final = frozenset({Recipe.FORMAT_PNG, Recipe.FORMAT_JPEG})

# Channel layouts that every encoder here knows, by number of channels.
LAYOUTS: Final = {
    1: "mono",
    2: "stereo",
    3: "3.0",
    4: "quad",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}
_AAC_LAYOUTS: Final = LAYOUTS | {4: "4.0"}
# A clip that ends this close to the media's end may end with the media's sound.
_NEAR_SECONDS: Final = 0.25
_NEAR_SHARE: Final = 0.01
_EXACT_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Span:
    """Which part of the media is made, in seconds."""

    start: float
    length: float
    reaches_end: bool


@dataclass(frozen=True, slots=True)
class AudioTarget:
    """The audio of the result."""

    index: int
    sample_rate_hz: int
    channels: int
    layout: str


def audio_stream(media: Media) -> AudioStream:
    """The one that is heard."""
    plain = [stream for stream in media.audio if not stream.supplementary]
    return next((stream for stream in plain if stream.preferred), (plain or media.audio)[0])


def video_stream(media: Media) -> VideoStream:
    """The one that is seen."""
    return media.video[0]


def seconds(duration: Duration) -> float:
    """A length of time of the contract as a number."""
    return duration.seconds + duration.nanos / 1e9


def span(recipe: Recipe, media: Media) -> Span:
    """The part that the recipe asks for, as far as the media has it."""
    whole, start = seconds(media.duration), seconds(recipe.start)
    end = seconds(recipe.end) if recipe.HasField("end") else whole
    return Span(start, max(0.0, min(end, whole) - start), end >= whole)


def tolerance(recipe: Recipe, media: Media) -> float:
    """How many seconds the result may be longer or shorter than `span` says.

    50 ms, but where it ends as its stream does, with what coders add and pictures last.
    """
    part = span(recipe, media)
    if recipe.format == Recipe.FORMAT_MP4:
        rate = video_stream(media).frame_rate
        return max(_NEAR_SECONDS, 2 / rate if rate > 0 else 0.0, _NEAR_SHARE * part.length)
    if part.reaches_end and not is_filled(media):
        return max(_NEAR_SECONDS, _NEAR_SHARE * part.length)
    return _EXACT_SECONDS


def is_filled(media: Media) -> bool:
    """Whether sound that ends early is followed by silence until the end of the media."""
    return bool(media.video) or len(media.audio) > 1


def sound(recipe: Recipe, media: Media) -> AudioTarget:
    """The audio of what an audio recipe, or MP4, makes."""
    source = audio_stream(media)
    most = 2 if recipe.format == Recipe.FORMAT_MP3 or source.channels > max(LAYOUTS) else 8
    channels = recipe.channels if recipe.HasField("channels") else min(source.channels, most)
    aac = recipe.format in {Recipe.FORMAT_M4A, Recipe.FORMAT_MP4}
    layout = (_AAC_LAYOUTS if aac else LAYOUTS)[channels]
    rate = recipe.sample_rate_hz or min(
        sample_rates(recipe), key=lambda rate: (abs(rate - source.sample_rate_hz), -rate)
    )
    return AudioTarget(source.index, rate, channels, layout)


def copies_video(recipe: Recipe, media: Media) -> bool:
    """Whether MP4 takes the pictures as they are. A copy could begin at a key frame only."""
    video = video_stream(media)
    lower = recipe.HasField("max_height") and shown_size(video)[1] > recipe.max_height
    return (
        video.codec == "h264"
        and video.pixel_format in {"yuv420p", "yuvj420p"}
        and is_common_profile(video)
        and not (lower or recipe.HasField("quality") or span(recipe, media).start)
    )


def copies_audio(recipe: Recipe, media: Media) -> bool:
    """Whether MP4 takes the sound as it is."""
    audio = audio_stream(media)
    asked = recipe.HasField("sample_rate_hz") or recipe.HasField("channels")
    return (
        audio.codec == "aac"
        and is_common_profile(audio)
        and not (asked or recipe.normalize_loudness or span(recipe, media).start)
    )


def shown_size(video: VideoStream) -> tuple[int, int]:
    """Width and height as a player shows them."""
    if video.rotation in {90, 270}:
        return video.height, video.width
    return video.width, video.height


def encoded_size(recipe: Recipe, media: Media) -> tuple[int, int]:
    """Width and height of pictures that are encoded for MP4: even, for 4:2:0."""
    width, height = shown_size(video_stream(media))
    if recipe.HasField("max_height") and height > recipe.max_height:
        lower = recipe.max_height // 2 * 2
        return max(2, round(width * lower / height / 2) * 2), lower
    return max(2, width // 2 * 2), max(2, height // 2 * 2)


def chapters(recipe: Recipe, media: Media) -> list[Chapter]:
    """The media's, as far as they lie in the result, on its clock."""
    part = span(recipe, media)
    kept = []
    for chapter in media.chapters:
        start = max(0.0, seconds(chapter.start) - part.start)
        end = min(part.length, seconds(chapter.end) - part.start)
        if end > start:
            one = Chapter(title=chapter.title)
            one.start.FromMilliseconds(round(start * 1000))
            one.end.FromMilliseconds(round(end * 1000))
            kept.append(one)
    return kept
