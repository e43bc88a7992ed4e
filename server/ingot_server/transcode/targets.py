"""The parts of a plan: which streams become which streams of the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingot_server.library.recipe_formats import AudioCodec
from ingot_server.library.storyboards import StoryboardLayout

_OPUS_DECODED_HZ: Final = 48000


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The part of the media item that is converted, in seconds."""

    start: float
    length: float
    reaches_end: bool
    lead: float
    """How long before the start decoding begins; what it gives is dropped."""


@dataclass(frozen=True, slots=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class AudioTarget:
    """The audio of the result."""

    index: int
    """The number of the stream in the file."""
    codec: AudioCodec
    sample_rate_hz: int
    channels: int
    layout: str
    bitrate_kbps: int
    """0 if the codec is lossless, or `quality` is set."""
    quality: int | None
    """As `lame -V`."""
    bits_per_sample: int
    """0 for lossy codecs."""
    copied: bool
    """Whether the stream is taken as it is."""
    normalized: bool
    """Whether its loudness is normalized."""

    @property
    def codec_name(self) -> str:
        """What FFmpeg calls the codec of the result."""
        if self.codec is AudioCodec.PCM:
            return f"pcm_s{self.bits_per_sample}le"
        return self.codec.value

    @property
    def decoded_rate_hz(self) -> int:
        """The sample rate that a decoder reports."""
        return _OPUS_DECODED_HZ if self.codec is AudioCodec.OPUS else self.sample_rate_hz


@dataclass(frozen=True, slots=True)
class Picture:
    """What the frames of the source need before they are scaled."""

    interlaced: bool
    hdr_transfer: str
    """Their transfer characteristics if they are HDR, which are mapped to SDR; else empty."""
    is_rgb: bool


@dataclass(frozen=True, slots=True)
class VideoTarget:
    """The video of the result."""

    index: int
    """The number of the stream in the file."""
    picture: Picture
    size: Size
    """The size of encoded video."""
    source_size: Size
    """The size of copied video."""
    scaled: bool
    """Whether encoding scales the video; otherwise it crops it to an even size."""
    crf: int
    """The constant rate factor of x264."""
    copied: bool
    """Whether the stream is taken as it is."""


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """The frame that becomes the result."""

    index: int
    """The number of the stream in the file."""
    picture: Picture
    height: int
    max_height: int | None


@dataclass(frozen=True, slots=True)
class StoryboardTarget:
    """The pictures of a storyboard."""

    index: int
    """The number of the stream in the file."""
    picture: Picture
    tile: Size
    """The size of each picture on a sheet."""
    layout: StoryboardLayout


@dataclass(frozen=True, slots=True)
class WaveformTarget:
    """The audio that a waveform shows."""

    index: int
    """The number of the stream in the file."""
    sample_rate_hz: int
    """A multiple of `points_per_second`."""
    points_per_second: int
