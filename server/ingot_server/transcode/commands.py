"""The arguments of ffmpeg for a plan. Pure.

Streams are named by their number in the file, so cover art is never taken for video. None of the
file's own metadata is carried over: tags and chapters come from the Media (`tags.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, assert_never

import ffmpeg

from ingot_server.library.recipe_formats import AudioCodec
from ingot_server.transcode.ffmpeg import DEMUXERS, STANDARD_OUTPUT
from ingot_server.transcode.loudness import Loudness, measuring_filter, normalizing_filter
from ingot_server.transcode.plan import Plan
from ingot_server.transcode.targets import AudioTarget, ImageTarget, Picture, VideoTarget

# Every encoder that the commands name, except those of PCM, which no ffmpeg lacks.
ENCODERS: Final = frozenset({"libx264", "libmp3lame", "aac", "libopus", "flac", "png", "mjpeg"})
# The filters that not every build of ffmpeg has.
FILTERS: Final = frozenset({"bwdif", "tonemap", "zscale"})
_PRESET: Final = "fast"
_LONGER: Final = 1.1
_LONGER_SECONDS: Final = 10.0
# Fills gaps, also the one before the first sample, and leaves jitter below 0.1 s alone.
_ON_TIME: Final = "aresample=async=1:first_pts=0"


def measure_arguments(plan: Plan, source: str, threads: int = 0) -> list[str]:
    """Return the command of the first pass, which logs the loudness as JSON at level `info`."""
    assert plan.audio is not None
    stream = _input(plan, source, threads)[str(plan.audio.index)]
    filters = [*_audio_filters(plan.audio), measuring_filter()]
    return _compiled(
        ffmpeg.output(stream, "-", **_time_options(plan), af=",".join(filters), f="null")
    )


def convert_arguments(
    plan: Plan,
    source: str,
    output: Path,
    *,
    loudness: Loudness | None = None,
    metadata: Path | None = None,
    encode: bool = False,
    threads: int = 0,
) -> list[str]:
    """Return the command that makes the result, for every format except WAVEFORM.

    `loudness` is what the first pass measured. `metadata` is a file with tags and chapters for MP4
    and M4A. If `encode` is set, nothing is copied.
    """
    found = _input(plan, source, threads)
    options: dict[str, Any] = {"map_metadata": "-1", "map_chapters": "-1", "threads": threads}
    streams = []
    if plan.image is not None:
        streams.append(found[str(plan.image.index)])
        options |= _image_options(plan, plan.image) | {"frames:v": 1}
    if plan.video is not None:
        streams.append(found[str(plan.video.index)])
        options |= _video_options(plan.video, encode=encode)
    if plan.audio is not None:
        streams.append(found[str(plan.audio.index)])
        options |= _audio_options(plan, plan.audio, loudness, encode=encode)
    options |= {**plan.format.muxer, **_time_options(plan)}
    if metadata is not None:
        # It has no stream, but only what is mapped is an input for ffmpeg-python.
        streams.append(ffmpeg.input(f"file:{metadata}", f="ffmetadata")["s?"])
        options |= {"map_metadata": "1", "map_chapters": "1"}
    return _compiled(ffmpeg.output(*streams, f"file:{output}", **options))


def last_image_arguments(plan: Plan, source: str, output: Path, threads: int = 0) -> list[str]:
    """Return the command for a moment after the beginning of the last frame: it takes that one.

    Every frame from the key frame before it is written over the one before.
    """
    assert plan.image is not None
    stream = _input(plan, source, threads, noaccurate_seek=None)[str(plan.image.index)]
    options = {**_image_options(plan, plan.image), **plan.format.muxer}
    return _compiled(
        ffmpeg.output(stream, f"file:{output}", **options, map_metadata="-1", threads=threads)
    )


def waveform_arguments(plan: Plan, source: str, threads: int = 0) -> list[str]:
    """Return the command that writes mono PCM of unsigned bytes to standard output."""
    assert plan.waveform is not None
    filters = [_ON_TIME, "aformat=channel_layouts=mono", *_padding(plan)]
    return _compiled(
        ffmpeg.output(
            _input(plan, source, threads)[str(plan.waveform.index)],
            STANDARD_OUTPUT,
            **_time_options(plan),
            af=",".join(filters),
            ar=plan.waveform.sample_rate_hz,
            f="u8",
            acodec="pcm_u8",
        )
    )


def storyboard_arguments(plan: Plan, source: str, sheets: str, threads: int = 0) -> list[str]:
    """Return the command that writes JPEG sheets to `sheets`, a path with `%d` for the number.

    Each picture is the last frame at or before its time, which is what a player shows then. A
    second output without a file takes every frame: sheets are rare, and show no progress.
    """
    assert plan.storyboard is not None
    target, part = plan.storyboard, plan.time_range
    layout, tile = target.layout, target.tile
    end = f"trim=end={_time(part.lead + part.length)}"
    filters = (
        end,
        *(["bwdif=mode=send_frame:deint=interlaced"] if target.picture.interlaced else []),
        *([f"setpts=PTS-{_time(part.lead)}/TB"] if part.lead else []),
        # The video may end before the audio. Its last frame stays.
        f"tpad=stop_mode=clone:stop_duration={_time(layout.interval_ms / 1000)}",
        f"fps=fps=1000/{layout.interval_ms}:start_time=0:round=up:eof_action=pass",
        "tpad=stop=-1:stop_mode=clone",
        f"trim=end_frame={layout.pictures}",
        *_tone_mapping(target.picture),
        f"scale={tile.width}:{tile.height}:force_original_aspect_ratio=disable",
        "setsar=1",
        f"tile={layout.columns}x{layout.rows}",
    )
    # The frame that is shown at the start may have begun before it.
    stream = _input(plan, source, threads, noaccurate_seek=None)[str(target.index)]
    written = ffmpeg.output(
        stream,
        f"file:{sheets}",
        **{"c:v": "mjpeg", "pix_fmt": "yuvj420p", "q:v": 4, "vf": ",".join(filters)},
        f="image2",
        fps_mode="passthrough",
        map_metadata="-1",
        threads=threads,
    )
    watched = ffmpeg.output(stream, "-", f="null", fps_mode="passthrough", vf=end)
    return _compiled(ffmpeg.merge_outputs(written, watched))


def _input(plan: Plan, source: str, threads: int, **more: object) -> Any:
    options: dict[str, Any] = {
        "protocol_whitelist": "file,pipe",
        "format_whitelist": DEMUXERS,
        "threads": threads,
        **more,
    }
    seek = plan.time_range.start - plan.time_range.lead
    if seek > 0:
        options["ss"] = _time(seek)
    return ffmpeg.input(source, **options)


def _time_options(plan: Plan) -> dict[str, str]:
    part = plan.time_range
    options = {"ss": _time(part.lead)} if part.lead else {}
    if plan.image is not None:
        return options
    if plan.ends_with_source:
        # The stream ends the result. This bounds what a damaged clock can make of it, and
        # validation refuses what comes near.
        return options | {"t": _time(longest(part.length))}
    return options | {"t": _time(part.length)}


def longest(seconds: float) -> float:
    """Return how long a result may become of which `seconds` are expected, before it is ended."""
    return _LONGER * seconds + _LONGER_SECONDS


def _audio_filters(audio: AudioTarget) -> list[str]:
    return [_ON_TIME, f"aformat=channel_layouts={audio.layout}"]


def _padding(plan: Plan) -> list[str]:
    if not plan.padded:
        return []
    return [f"apad=whole_dur={_time(plan.time_range.lead + plan.time_range.length)}"]


def _audio_options(
    plan: Plan, audio: AudioTarget, loudness: Loudness | None, *, encode: bool
) -> dict[str, Any]:
    if audio.copied and not encode:
        return {"c:a": "copy"}
    filters = _audio_filters(audio)
    if loudness is not None:
        filters.append(normalizing_filter(loudness))
    return {
        "af": ",".join([*filters, *_padding(plan)]),
        "ar": audio.sample_rate_hz,
        # Ogg and FLAC write a stream's own metadata among the tags.
        "map_metadata:s:a": "-1",
        **_audio_encoder(audio),
    }


def _audio_encoder(audio: AudioTarget) -> dict[str, Any]:
    match audio.codec:
        case AudioCodec.MP3 if audio.quality is not None:
            return {"c:a": "libmp3lame", "q:a": audio.quality}
        case AudioCodec.MP3:
            return {"c:a": "libmp3lame", "b:a": f"{audio.bitrate_kbps}k", "abr": 0}
        case AudioCodec.AAC:
            return {"c:a": "aac", "b:a": f"{audio.bitrate_kbps}k"}
        case AudioCodec.OPUS:
            return {"c:a": "libopus", "b:a": f"{audio.bitrate_kbps}k", "vbr": "off"}
        case AudioCodec.FLAC if audio.bits_per_sample == 24:
            return {"c:a": "flac", "sample_fmt": "s32", "bits_per_raw_sample": 24}
        case AudioCodec.FLAC:
            return {"c:a": "flac", "sample_fmt": "s16"}
        case AudioCodec.PCM:
            return {"c:a": audio.codec_name}
        case _:
            assert_never(audio.codec)


def _video_options(video: VideoTarget, *, encode: bool) -> dict[str, Any]:
    if video.copied and not encode:
        return {"c:v": "copy"}
    size = video.size
    # Not scaled, frames keep every pixel but an odd row or column.
    fitting = (
        f"scale={size.width}:{size.height}:force_original_aspect_ratio=disable,setsar=1"
        if video.scaled
        else "crop=max(2\\,trunc(iw/2)*2):max(2\\,trunc(ih/2)*2):0:0"
    )
    return {
        "c:v": "libx264",
        "preset": _PRESET,
        "crf": video.crf,
        "pix_fmt": "yuv420p",
        "vf": ",".join([*_video_filters(video.picture), fitting]),
        # Frames keep their own times. Fields have times between those of the source.
        "fps_mode": "vfr",
        "enc_time_base": "filter" if video.picture.interlaced else "demux",
    }


def _image_options(plan: Plan, image: ImageTarget) -> dict[str, Any]:
    height = "ih" if image.max_height is None else f"min(ih\\,{image.max_height})"
    filters = (
        *(["bwdif=mode=send_frame:deint=interlaced"] if image.picture.interlaced else []),
        *_tone_mapping(image.picture),
        # Pixels that are not square are made so.
        "scale=max(1\\,trunc(iw*sar)):ih",
        f"scale=max(1\\,round(iw*{height}/ih)):{height}",
        "setsar=1",
    )
    return {**plan.format.image_encoder, "vf": ",".join(filters)}


def _video_filters(picture: Picture) -> list[str]:
    """Return filters after which frames are progressive and SDR.

    Of interlaced frames each field becomes a frame, so that motion stays as smooth as it was.
    Frames that say that they are progressive stay as they are. The colours of two fields must not
    be mixed, so they get their final resolution before.
    """
    deinterlacing = ["bwdif=mode=send_field:deint=interlaced"] if picture.interlaced else []
    if deinterlacing and not picture.hdr_transfer:
        deinterlacing = ["scale=interl=-1", "format=yuv420p", *deinterlacing]
    return [*deinterlacing, *_tone_mapping(picture)]


def _tone_mapping(picture: Picture) -> list[str]:
    """Return filters that bring PQ or HLG (ITU-R BT.2100) to what a common screen shows (BT.709).

    Files often name the transfer characteristics alone; those have the primaries and the matrix of
    BT.2020. White paper, which has 203 cd/m2 in HDR (ITU-R BT.2408), stays nearly white.
    """
    if not picture.hdr_transfer:
        return []
    matrix = "" if picture.is_rgb else ":min=2020_ncl"
    return [
        f"zscale=tin={picture.hdr_transfer}:pin=2020{matrix}:p=2020:t=linear:npl=203",
        "format=gbrpf32le",
        "zscale=p=709",
        "tonemap=tonemap=mobius:desat=0",
        "zscale=t=709:m=709:r=limited",
        "format=yuv420p",
    ]


def _time(seconds: float) -> str:
    return f"{seconds:.6f}"


def _compiled(node: Any) -> list[str]:
    arguments: list[str] = node.get_args()
    return arguments
