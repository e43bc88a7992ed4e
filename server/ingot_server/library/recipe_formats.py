"""The formats that a recipe can name: one row for each, with everything that depends on the format.

The rows are plain data. What a format needs of ffmpeg or of a tag library beyond that is chosen by
its `AudioCodec` and `TagWriter` (transcode/commands.py, transcode/tags.py). CONTRIBUTING lists the
places that a new format touches.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message

from ingot.v1.recipe_pb2 import Recipe

Numbers = range | tuple[int, ...]
"""The values that a field may have, in ascending order."""

MP4_CONTAINER: Final = "mov,mp4,m4a,3gp,3g2,mj2"
"""What FFmpeg calls MP4, M4A, QuickTime and 3GPP alike."""


class FormatKind(enum.Enum):
    """What a format holds."""

    AUDIO = enum.auto()
    VIDEO = enum.auto()
    """Video, and audio if the media item has any."""
    IMAGE = enum.auto()
    STORYBOARD = enum.auto()
    WAVEFORM = enum.auto()
    TRANSCRIPT = enum.auto()


class AudioCodec(enum.StrEnum):
    """The audio codec of a format, by the name that FFmpeg gives it."""

    MP3 = "mp3"
    AAC = "aac"
    OPUS = "opus"
    FLAC = "flac"
    PCM = "pcm"


class TagWriter(enum.Enum):
    """What writes the title, the cover and the other tags into a file."""

    ID3 = enum.auto()
    MP4 = enum.auto()
    """The cover by mutagen; ffmpeg writes the chapters, and the texts too."""
    FLAC = enum.auto()
    OGG_OPUS = enum.auto()
    FFMPEG = enum.auto()


@dataclass(frozen=True, slots=True)
class AudioRates:
    """Sample rates, and the bit rates that audio with one of these can have."""

    sample_rates_hz: Numbers
    bitrates_kbps: Numbers = ()


@dataclass(frozen=True, slots=True)
class RecipeFormat:
    """Everything that follows from a recipe's format alone."""

    kind: FormatKind
    extension: str
    content_type: str
    container: str
    """What FFmpeg calls the container when it reads the file."""
    muxer: Mapping[str, str | int] = field(default_factory=dict)
    """The options of ffmpeg that write the container."""
    image_encoder: Mapping[str, str | int] = field(default_factory=dict)
    """The options of ffmpeg that write an image."""
    audio_codec: AudioCodec | None = None
    max_channels: int = 8
    """More channels than this are mixed into it."""
    tag_writer: TagWriter | None = None
    has_cover: bool = False
    defaults: Mapping[str, int] = field(default_factory=dict)
    """The values of unset parameters. A default bit rate gives way to a lower maximum."""
    rates: tuple[AudioRates, ...] = ()
    """In ascending order of the sample rates. The contract allows the same rates."""
    browser_video: frozenset[str] = frozenset()
    """The video codecs that every current browser decodes in this container."""
    browser_audio: frozenset[str] = frozenset()
    """The audio codecs that every current browser decodes in this container."""

    @property
    def sample_rates_hz(self) -> Numbers:
        """All sample rates of the format."""
        return _union(rates.sample_rates_hz for rates in self.rates)

    def bitrates_kbps(self, sample_rate_hz: int | None = None) -> Numbers:
        """The bit rates that go with a sample rate; all of them if it is None."""
        return _union(
            rates.bitrates_kbps
            for rates in self.rates
            if sample_rate_hz is None or sample_rate_hz in rates.sample_rates_hz
        )

    def sample_rates_for(self, bitrate_kbps: int) -> Numbers:
        """The sample rates that go with a bit rate."""
        return _union(
            rates.sample_rates_hz for rates in self.rates if bitrate_kbps in rates.bitrates_kbps
        )


def _union(numbers: Iterable[Numbers]) -> Numbers:
    parts = list(numbers)
    if len(parts) == 1:
        return parts[0]
    return tuple(sorted({number for part in parts for number in part}))


_H264: Final = frozenset({"h264"})
_AAC: Final = frozenset({"aac"})
_ANY_RATE: Final = (AudioRates(range(8000, 192_001)),)
# ISO/IEC 11172-3 and 13818-3, layer III; MPEG-2.5 is the extension that every decoder knows.
_MP3_RATES: Final = (
    AudioRates((8000, 11025, 12000), (8, 16, 24, 32, 40, 48, 56, 64)),
    AudioRates((16000, 22050, 24000), (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    AudioRates(
        (32000, 44100, 48000), (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    ),
)
_AAC_RATES: Final = (
    AudioRates(
        (
            *(8000, 11025, 12000, 16000, 22050, 24000),
            *(32000, 44100, 48000, 64000, 88200, 96000),
        ),
        range(16, 513),
    ),
)

RECIPE_FORMATS: Final[Mapping[str, RecipeFormat]] = {
    "mp3": RecipeFormat(
        FormatKind.AUDIO,
        extension=".mp3",
        content_type="audio/mpeg",
        container="mp3",
        # The Xing header tells players what the encoder added at both ends.
        muxer={"f": "mp3", "write_xing": 1, "id3v2_version": 0},
        audio_codec=AudioCodec.MP3,
        max_channels=2,
        tag_writer=TagWriter.ID3,
        has_cover=True,
        defaults={"bitrate_kbps": 192},
        rates=_MP3_RATES,
        browser_audio=frozenset({"mp3"}),
    ),
    "m4a": RecipeFormat(
        FormatKind.AUDIO,
        extension=".m4a",
        content_type="audio/mp4",
        container=MP4_CONTAINER,
        muxer={"f": "ipod", "movflags": "+faststart"},
        audio_codec=AudioCodec.AAC,
        tag_writer=TagWriter.MP4,
        has_cover=True,
        defaults={"bitrate_kbps": 160},
        rates=_AAC_RATES,
        browser_video=_H264,
        browser_audio=_AAC,
    ),
    "opus": RecipeFormat(
        FormatKind.AUDIO,
        extension=".opus",
        content_type="audio/ogg",
        container="ogg",
        muxer={"f": "opus"},
        audio_codec=AudioCodec.OPUS,
        tag_writer=TagWriter.OGG_OPUS,
        has_cover=True,
        defaults={"bitrate_kbps": 128},
        rates=(AudioRates((8000, 12000, 16000, 24000, 48000), range(6, 511)),),
        browser_audio=frozenset({"opus", "vorbis"}),
    ),
    "flac": RecipeFormat(
        FormatKind.AUDIO,
        extension=".flac",
        content_type="audio/flac",
        container="flac",
        muxer={"f": "flac"},
        audio_codec=AudioCodec.FLAC,
        tag_writer=TagWriter.FLAC,
        has_cover=True,
        defaults={"bits_per_sample": 16},
        rates=_ANY_RATE,
        browser_audio=frozenset({"flac"}),
    ),
    "wav": RecipeFormat(
        FormatKind.AUDIO,
        extension=".wav",
        content_type="audio/wav",
        container="wav",
        muxer={"f": "wav", "rf64": "auto"},
        audio_codec=AudioCodec.PCM,
        defaults={"bits_per_sample": 16},
        rates=_ANY_RATE,
        browser_audio=frozenset({"pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le"}),
    ),
    "mp4": RecipeFormat(
        FormatKind.VIDEO,
        extension=".mp4",
        content_type="video/mp4",
        container=MP4_CONTAINER,
        muxer={"f": "mp4", "movflags": "+faststart"},
        audio_codec=AudioCodec.AAC,
        tag_writer=TagWriter.FFMPEG,
        rates=_AAC_RATES,
        browser_video=_H264,
        browser_audio=_AAC,
    ),
    "png": RecipeFormat(
        FormatKind.IMAGE,
        extension=".png",
        content_type="image/png",
        container="image2",
        muxer={"f": "image2", "update": 1},
        image_encoder={"c:v": "png", "pix_fmt": "rgb24"},
    ),
    "jpeg": RecipeFormat(
        FormatKind.IMAGE,
        extension=".jpg",
        content_type="image/jpeg",
        container="image2",
        muxer={"f": "image2", "update": 1},
        image_encoder={"c:v": "mjpeg", "pix_fmt": "yuvj420p", "q:v": 2},
        defaults={"encoding": Recipe.Image.ENCODING_JPEG},
    ),
    "storyboard": RecipeFormat(
        FormatKind.STORYBOARD,
        extension=".vtt",
        content_type="text/vtt",
        container="webvtt",
        defaults={"width": 160, "columns": 10, "rows": 10},
    ),
    "waveform": RecipeFormat(
        FormatKind.WAVEFORM,
        extension=".json",
        content_type="application/json",
        container="json",
        defaults={"points_per_second": 20},
    ),
    "transcript": RecipeFormat(
        FormatKind.TRANSCRIPT,
        extension=".txt",
        # Browsers take text without it for that of an old character set.
        content_type="text/plain; charset=utf-8",
        container="text",
        defaults={"encoding": Recipe.Transcript.ENCODING_TEXT},
    ),
    "transcript_json": RecipeFormat(
        FormatKind.TRANSCRIPT,
        extension=".json",
        content_type="application/json",
        container="json",
        defaults={"encoding": Recipe.Transcript.ENCODING_JSON},
    ),
}
"""By name: that of the format's field in Recipe, or of its encoding."""


def format_name(recipe: Recipe) -> str:
    """Return the name of a recipe's format, such as `mp3` or `png`."""
    if recipe.HasField("transcript"):
        is_json = recipe.transcript.encoding == Recipe.Transcript.ENCODING_JSON
        return "transcript_json" if is_json else "transcript"
    if recipe.HasField("image"):
        encoding = recipe.image.encoding or Recipe.Image.ENCODING_JPEG
        return Recipe.Image.Encoding.Name(encoding).removeprefix("ENCODING_").lower()
    return recipe.WhichOneof("format") or ""


def format_of(recipe: Recipe) -> RecipeFormat:
    """Return the row of a recipe's format."""
    return RECIPE_FORMATS[format_name(recipe)]


def parameters_of(recipe: Recipe) -> Message:
    """Return the message with the parameters of a recipe's format."""
    parameters: Message = getattr(recipe, recipe.WhichOneof("format") or "")
    return parameters


def parameter(recipe: Recipe, name: str) -> int | None:
    """Return a parameter; None if it is not set, or if the recipe's format does not have it."""
    parameters = parameters_of(recipe)
    if name not in parameters.DESCRIPTOR.fields_by_name or not parameters.HasField(name):
        return None
    value: int = getattr(parameters, name)
    return value


def audio_bitrate_kbps(recipe: Recipe) -> int | None:
    """Return the bit rate of the audio; None if the recipe does not set it."""
    return parameter(recipe, "bitrate_kbps") or parameter(recipe, "audio_bitrate_kbps")


def normalizes_loudness(recipe: Recipe) -> bool:
    """Return whether the recipe normalizes the loudness of the audio."""
    return getattr(parameters_of(recipe), "normalize_loudness", False)
