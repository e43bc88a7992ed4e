"""What one recipe makes of one media item: decided once, for the command, the tags and the checks.

- Of several audio streams the first that the file marks as default is taken, and of several video
  streams the first. An audio stream that is marked as a commentary, or as made for the impaired, is
  taken only if the file has no other.
- A result begins at the beginning of the media item, or at `start_offset`. If the audio begins
  later, silence is put before it. The audio of a media item with other streams lasts as long as the
  media item. So a moment has the same time in the media item and in a result of all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from google.protobuf.duration_pb2 import Duration

from ingot.v1.media_pb2 import AudioStream, Chapter, Media, VideoStream
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.library.playable import (
    is_common_picture,
    is_common_profile,
    is_hdr,
    is_interlaced,
)
from ingot_server.library.recipe_formats import (
    AudioCodec,
    FormatKind,
    RecipeFormat,
    TagWriter,
    audio_bitrate_kbps,
    format_of,
    normalizes_loudness,
    parameter,
)
from ingot_server.library.recipes import check_applicable, needs_video, sample_rates
from ingot_server.library.storyboards import storyboard_layout
from ingot_server.transcode.targets import (
    AudioTarget,
    ImageTarget,
    Picture,
    Size,
    StoryboardTarget,
    TimeRange,
    VideoTarget,
    WaveformTarget,
)

# Channel layouts that every encoder here knows, by number of channels.
_LAYOUTS: Final = {
    1: "mono",
    2: "stereo",
    3: "3.0",
    4: "quad",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}
_AAC_LAYOUTS: Final = _LAYOUTS | {4: "4.0"}
_AAC_KBPS_PER_CHANNEL: Final = 80
_OPUS_KBPS_PER_CHANNEL: Final = 256
_DEFAULT_CRF: Final = 23
_WAVEFORM_HZ: Final = 48000
# The highest picture of a storyboard, in widths that were requested.
_HIGHEST_PICTURE: Final = 2
# A result that ends this close to the end of the media item may end with its audio.
_NEAR_SECONDS: Final = 0.25
_NEAR_SHARE: Final = 0.01
_EXACT_SECONDS: Final = 0.05
# Without an index a seek may end behind the last key frame before the start.
_LEAD_SECONDS: Final = {"mpegts": 15.0, "mpeg": 15.0}
# Their clocks may jump, so only all of their packets say how long they last.
_LENGTH_AT_END: Final = frozenset({"mpegts", "mpeg", "ogg"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What one canonical recipe makes of one media item."""

    format: RecipeFormat
    media: Media
    """The media item that is converted."""
    time_range: TimeRange
    tolerance: float
    """How many seconds the result may be longer or shorter than the time range."""
    padded: bool
    """Whether silence follows audio that ends before the media item does."""
    chapters: tuple[Chapter, ...]
    """Those of the media item, as far as they are in the time range, on the result's clock."""
    audio: AudioTarget | None = None
    video: VideoTarget | None = None
    image: ImageTarget | None = None
    waveform: WaveformTarget | None = None
    storyboard: StoryboardTarget | None = None

    @property
    def takes_all_processors(self) -> bool:
        """Whether all video is decoded, or even encoded."""
        return self.video is not None or self.storyboard is not None

    @property
    def ends_with_source(self) -> bool:
        """Whether the end of the source ends the result, not a length."""
        return self.time_range.reaches_end and not self.padded

    @property
    def normalizes_loudness(self) -> bool:
        """Whether a first pass measures the loudness."""
        return self.audio is not None and self.audio.normalized

    @property
    def copies(self) -> bool:
        """Whether any stream is taken as it is."""
        return bool(self.audio and self.audio.copied) or bool(self.video and self.video.copied)


def plan_conversion(recipe: Recipe, media: Media) -> Plan:
    """Return the plan for a canonical recipe and a probed media item.

    Raises Failure INVALID_REQUEST if the media item does not have what the recipe needs.
    """
    check_applicable(recipe, media)
    row = format_of(recipe)
    time_range = _time_range(recipe, media)
    padded = row.kind in {FormatKind.AUDIO, FormatKind.WAVEFORM} and (
        bool(media.video) or len(media.audio) > 1
    )
    has_audio = row.audio_codec is not None and bool(media.audio)
    return Plan(
        format=row,
        media=media,
        time_range=time_range,
        tolerance=_tolerance(row, media, time_range, padded=padded),
        padded=padded,
        chapters=tuple(_chapters(media, time_range)),
        audio=_audio_target(recipe, media) if has_audio else None,
        video=_video_target(recipe, media.video[0]) if row.kind is FormatKind.VIDEO else None,
        image=_image_target(recipe, media.video[0]) if row.kind is FormatKind.IMAGE else None,
        waveform=_waveform_target(recipe, media) if row.kind is FormatKind.WAVEFORM else None,
        storyboard=_storyboard_target(recipe, media.video[0], time_range.length)
        if row.kind is FormatKind.STORYBOARD
        else None,
    )


def reads_source_once(recipe: Recipe) -> bool:
    """Return whether ffmpeg reads the source once, from the beginning: then it can be a stream."""
    return not (
        normalizes_loudness(recipe) or recipe.HasField("start_offset") or needs_video(recipe)
    )


def can_begin_early(recipe: Recipe) -> bool:
    """Return whether a conversion can begin before the source is complete.

    For that ffmpeg must be able to read a stream, and the tags must be written afterwards.
    """
    row = format_of(recipe)
    return (
        reads_source_once(recipe)
        and row.kind not in {FormatKind.WAVEFORM, FormatKind.TRANSCRIPT}
        and not tags_by_ffmpeg(row)
    )


def is_made_from_head(plan: Plan) -> bool:
    """Return whether the head of a file is enough for a plan, as far as it depends on the length.

    A wrong length would be filled with silence.
    """
    return not plan.padded or plan.media.format_name not in _LENGTH_AT_END


def tags_by_ffmpeg(row: RecipeFormat) -> bool:
    """Return whether ffmpeg gets the tags as a file, for all of them or for the chapters."""
    return row.tag_writer in {TagWriter.FFMPEG, TagWriter.MP4}


def to_seconds(duration: Duration) -> float:
    """Return a Duration as a number of seconds."""
    return duration.seconds + duration.nanos / 1e9


def displayed_size(video: VideoStream) -> Size:
    """Return the size of a video as a player shows it, in square pixels and upright."""
    pixel = video.sample_aspect_ratio
    width = (
        max(1, round(video.width * pixel.width / (pixel.height or 1)))
        if pixel.width
        else video.width
    )
    return Size(video.height, width) if video.rotation in {90, 270} else Size(width, video.height)


def _time_range(recipe: Recipe, media: Media) -> TimeRange:
    whole, start = to_seconds(media.duration), to_seconds(recipe.start_offset)
    end = to_seconds(recipe.end_offset) if recipe.HasField("end_offset") else whole
    lead = min(_LEAD_SECONDS.get(media.format_name, 0.0), start)
    return TimeRange(start, max(0.0, min(end, whole) - start), end >= whole, lead)


def _tolerance(row: RecipeFormat, media: Media, time_range: TimeRange, *, padded: bool) -> float:
    """50 ms; more for a result that ends with its stream, as encoders and frames round it up."""
    near = max(_NEAR_SECONDS, _NEAR_SHARE * time_range.length)
    if row.kind is FormatKind.VIDEO:
        rate = media.video[0].frame_rate
        return max(near, 2 * rate.denominator / rate.numerator if rate.numerator else 0.0)
    return near if time_range.reaches_end and not padded else _EXACT_SECONDS


def _audio_stream(media: Media) -> AudioStream:
    """Return the original sound, else the stream that players take."""
    main = [stream for stream in media.audio if not stream.supplementary]
    original = [stream for stream in main if stream.role == AudioStream.ROLE_ORIGINAL]
    main = original or main
    return next((stream for stream in main if stream.preferred), (main or media.audio)[0])


def _audio_target(recipe: Recipe, media: Media) -> AudioTarget:
    row, source = format_of(recipe), _audio_stream(media)
    assert row.audio_codec is not None  # of all formats with audio
    most = 2 if source.channels > max(_LAYOUTS) else row.max_channels
    channels = parameter(recipe, "channels") or max(1, min(source.channels, most))
    layouts = _AAC_LAYOUTS if row.audio_codec is AudioCodec.AAC else _LAYOUTS
    return AudioTarget(
        index=source.index,
        codec=row.audio_codec,
        sample_rate_hz=parameter(recipe, "sample_rate_hz")
        or _nearest_rate(recipe, source.sample_rate_hz),
        channels=channels,
        layout=layouts[channels],
        bitrate_kbps=_bitrate_kbps(recipe, row.audio_codec, channels),
        quality=parameter(recipe, "quality") if row.kind is FormatKind.AUDIO else None,
        bits_per_sample=parameter(recipe, "bits_per_sample") or 0,
        copied=row.kind is FormatKind.VIDEO and _can_copy_audio(recipe, source),
        normalized=normalizes_loudness(recipe),
    )


def _nearest_rate(recipe: Recipe, rate_hz: int) -> int:
    rates = sample_rates(recipe)
    if isinstance(rates, range):
        return min(max(rate_hz, rates[0]), rates[-1])
    return min(rates, key=lambda rate: (abs(rate - rate_hz), -rate))


def _bitrate_kbps(recipe: Recipe, codec: AudioCodec, channels: int) -> int:
    chosen = audio_bitrate_kbps(recipe) or 0
    if codec is AudioCodec.OPUS:
        return min(chosen, _OPUS_KBPS_PER_CHANNEL * channels)
    if codec is AudioCodec.AAC:
        return chosen or _AAC_KBPS_PER_CHANNEL * channels
    return chosen


def _can_copy_audio(recipe: Recipe, audio: AudioStream) -> bool:
    changed = (
        audio_bitrate_kbps(recipe)
        or parameter(recipe, "sample_rate_hz")
        or parameter(recipe, "channels")
        or normalizes_loudness(recipe)
        or to_seconds(recipe.start_offset)
    )
    return audio.codec == "aac" and is_common_profile(audio) and not changed


def _video_target(recipe: Recipe, video: VideoStream) -> VideoTarget:
    quality = parameter(recipe, "quality")
    return VideoTarget(
        index=video.index,
        picture=_picture(video),
        size=_encoded_size(recipe, video),
        source_size=displayed_size(video),
        scaled=parameter(recipe, "max_height") is not None or video.HasField("sample_aspect_ratio"),
        crf=_DEFAULT_CRF if quality is None else quality,
        copied=_can_copy_video(recipe, video),
    )


def _can_copy_video(recipe: Recipe, video: VideoStream) -> bool:
    """Return whether the stream stays as it is. A copy can begin at a key frame only."""
    max_height = parameter(recipe, "max_height")
    lower = max_height is not None and displayed_size(video).height > max_height
    return (
        video.codec == "h264"
        and is_common_picture(video)
        and is_common_profile(video)
        and not video.HasField("sample_aspect_ratio")
        and not (
            lower or parameter(recipe, "quality") is not None or to_seconds(recipe.start_offset)
        )
    )


def _encoded_size(recipe: Recipe, video: VideoStream) -> Size:
    """Return an even size, which 4:2:0 needs."""
    shown, max_height = displayed_size(video), parameter(recipe, "max_height")
    if max_height is not None and shown.height > max_height:
        height = max_height // 2 * 2
        return Size(max(2, round(shown.width * height / shown.height / 2) * 2), height)
    return Size(max(2, shown.width // 2 * 2), max(2, shown.height // 2 * 2))


def _image_target(recipe: Recipe, video: VideoStream) -> ImageTarget:
    height, max_height = displayed_size(video).height, parameter(recipe, "max_height")
    return ImageTarget(
        video.index,
        _picture(video),
        height if max_height is None else min(height, max_height),
        max_height,
    )


def _storyboard_target(recipe: Recipe, video: VideoStream, seconds: float) -> StoryboardTarget:
    """Pictures keep their shape. Their size is even, so that none shares colours with the next."""
    shown, width = displayed_size(video), recipe.storyboard.width
    ratio = shown.width / shown.height
    fitting = min(width, shown.width, _HIGHEST_PICTURE * width * ratio)
    tile = Size(max(2, int(fitting) // 2 * 2), max(2, round(fitting / ratio / 2) * 2))
    layout = storyboard_layout(recipe.storyboard, seconds)
    return StoryboardTarget(video.index, _picture(video), tile, layout)


def _picture(video: VideoStream) -> Picture:
    return Picture(
        interlaced=is_interlaced(video),
        hdr_transfer=video.color_transfer if is_hdr(video) else "",
        is_rgb=video.pixel_format.startswith(("gbr", "rgb", "bgr")),
    )


def _waveform_target(recipe: Recipe, media: Media) -> WaveformTarget:
    source, points = _audio_stream(media), parameter(recipe, "points_per_second")
    assert points  # the canonical form sets it
    rate = min(_WAVEFORM_HZ, source.sample_rate_hz)
    return WaveformTarget(source.index, points * max(1, round(rate / points)), points)


def _chapters(media: Media, time_range: TimeRange) -> list[Chapter]:
    kept = []
    for chapter in media.chapters:
        start = max(0.0, to_seconds(chapter.start_offset) - time_range.start)
        end = min(time_range.length, to_seconds(chapter.end_offset) - time_range.start)
        if end > start:
            one = Chapter(title=chapter.title)
            one.start_offset.FromMilliseconds(round(start * 1000))
            one.end_offset.FromMilliseconds(round(end * 1000))
            kept.append(one)
    return kept
