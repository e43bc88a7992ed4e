"""Small real media, made with ffmpeg on first use and kept for the session."""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

SECONDS = 2.0

_PICTURE = ("-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=2")
_SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=2")
_BOTH = (*_PICTURE, *_SOUND, "-shortest")
_H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
_VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-pix_fmt", "yuv420p")
_TEN_BITS = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le")
# White paper has 203 cd/m2 in HDR, a signal of 58 % (ITU-R BT.2408): 64 + 0.58 * 876 of 10 bits.
_WHITE_PAPER = (
    *("-f", "lavfi", "-i", "color=size=160x120:rate=25:duration=2", "-vf"),
    (
        "format=yuv420p10le,geq=lum=572:cb=512:cr=512,"
        "setparams=color_trc=smpte2084:color_primaries=bt2020:colorspace=bt2020nc"
    ),
)
# Each frame has two moments of something that moves quickly.
_MOVING = (
    *("-f", "lavfi", "-i", "testsrc2=size=320x240:rate=50:duration=2", *_SOUND, "-shortest"),
    *("-vf", "tinterlace=interleave_top,fieldorder=tff"),
)
_INTERLACED = ("-flags", "+ilme+ildct", "-b:v", "4M")
_AAC = ("-c:a", "aac", "-b:a", "64k")
_TAGS = ("-metadata", "title=Bell of the Day", "-metadata", "artist=Ingot")
_CHAPTERS = """;FFMETADATA1
title=Two Parts
[CHAPTER]
TIMEBASE=1/1000
START=0
END=800
title=First
[CHAPTER]
TIMEBASE=1/1000
START=800
END=2000
title=Second
"""

# File name to ffmpeg's arguments; `{name}` in them is another of these files.
RECIPES: dict[str, tuple[str, ...]] = {
    "plain.mp4": (*_BOTH, *_H264, *_AAC, *_TAGS),
    "faststart.mp4": (*_BOTH, *_H264, *_AAC, "-movflags", "+faststart"),
    "fragmented.mp4": (*_BOTH, *_H264, *_AAC, "-g", "25", "-movflags", "frag_keyframe+empty_moov"),
    "silent.mp4": (*_PICTURE, *_H264),
    "ntsc.mp4": (*_PICTURE, *_H264, "-r", "30000/1001"),
    "odd.mp4": (*_PICTURE, "-vf", "crop=99:77:0:0", "-c:v", "libx264", "-pix_fmt", "yuv444p"),
    "tiny.mp4": (*_BOTH, *_H264, *_AAC, "-t", "0.1"),
    "hevc.mp4": (*_PICTURE, "-c:v", "libx265", "-x265-params", "log-level=none", "-t", "0.4"),
    "av1.mp4": (*_PICTURE, "-c:v", "libaom-av1", "-cpu-used", "8", "-t", "0.4"),
    "slides.mkv": (*_PICTURE, "-vf", "fps=1", *_H264),
    "several.mkv": (
        *(*_PICTURE, *_SOUND, *_SOUND, "-map", "0", "-map", "1", "-map", "2", *_H264),
        *("-c:a:0", "aac", "-c:a:1", "ac3", "-ac:a:1", "2"),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"),
    ),
    "live.mkv": (*_BOTH, *_H264, *_AAC, "-g", "25", "-f", "matroska", "-live", "1"),
    "clip.webm": (*_BOTH, "-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"),
    "sound.webm": (*_SOUND, "-c:a", "libopus"),
    "turned.mov": ("-display_rotation", "-90", "-i", "{silent.mp4}", "-c", "copy"),
    "upside.mp4": ("-display_rotation", "180", "-i", "{silent.mp4}", "-c", "copy"),
    "pcm.mov": (*_BOTH, *_H264, "-c:a", "pcm_s16le"),
    "constant.mp3": (*_SOUND, "-b:a", "64k", "-write_xing", "0", "-id3v2_version", "0"),
    "variable.mp3": (*_SOUND, "-q:a", "4", *_TAGS),
    "unheaded.mp3": (*_SOUND, "-q:a", "4", "-write_xing", "0"),
    "cover.mp3": (
        *(*_SOUND, "-i", "{picture.png}", "-map", "0", "-map", "1", "-c:v", "copy"),
        *("-disposition:v", "attached_pic", "-id3v2_version", "3", *_TAGS),
    ),
    "cover.m4a": (
        *(*_SOUND, "-i", "{picture.png}", "-map", "0", "-map", "1", "-c:v", "copy"),
        *("-disposition:v", "attached_pic", *_AAC),
    ),
    "sound.m4a": (*_SOUND, *_AAC, *_TAGS),
    "chapters.m4a": (*_SOUND, "-i", "{chapters.txt}", "-map_metadata", "1", *_AAC),
    "two-minutes.mp4": (
        *("-f", "lavfi", "-i", "testsrc=size=160x120:rate=5:duration=125"),
        *("-f", "lavfi", "-i", "sine=frequency=440:duration=125", *_H264, *_AAC),
    ),
    "film.mp4": (
        *("-f", "lavfi", "-i", "testsrc=size=320x180:rate=10:duration=30"),
        *("-f", "lavfi", "-i", "sine=frequency=440:duration=30", "-i", "{chapters.txt}"),
        *("-map", "0", "-map", "1", "-map_metadata", "2"),
        *(*_H264, *_AAC, "-movflags", "+faststart"),
    ),
    "raw.aac": (*_SOUND, *_AAC),
    "sound.ac3": (*_SOUND, "-c:a", "ac3"),
    "sound.flac": (*_SOUND, *_TAGS),
    "sound.wav": (*_SOUND,),
    "sound.aiff": (*_SOUND,),
    "vorbis.ogg": (*_SOUND, "-c:a", "libvorbis", *_TAGS),
    "short_pages.ogg": (*_SOUND, "-c:a", "libvorbis", "-page_duration", "20000"),
    "sound.opus": (*_SOUND, "-c:a", "libopus"),
    "clip.ts": (*_BOTH, *_H264, *_AAC),
    "ten_hours_later.ts": ("-i", "{clip.ts}", "-c", "copy", "-output_ts_offset", "36000"),
    "other_vorbis.ogg": (*_SOUND, "-c:a", "libvorbis", "-serial_offset", "9"),
    "film_cover.m4a": (
        *(*_SOUND, "-i", "{picture.jpg}", "-map", "0", "-map", "1", "-c:v", "copy"),
        *("-disposition:v", "0", *_AAC, "-f", "mp4"),
    ),
    "clip.mpg": (*_BOTH, "-c:v", "mpeg2video", "-c:a", "mp2"),
    "clip.avi": (*_BOTH, "-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "clip.flv": (*_BOTH, "-c:v", "flv", "-c:a", "libmp3lame"),
    "clip.wmv": (*_BOTH, "-c:v", "wmv2", "-c:a", "wmav2"),
    # What the table of conversions is made of besides.
    "vp9.webm": (*_BOTH, *_VP9, "-c:a", "libopus"),
    "theora.ogv": (*_BOTH, "-c:v", "libtheora", "-c:a", "libvorbis"),
    "ten_bits.mp4": (*_PICTURE, *_TEN_BITS),
    "hdr.mp4": (*_WHITE_PAPER, *_TEN_BITS),
    # Of HDR, it names the transfer characteristics alone, as phones and recorders do.
    "hlg.mkv": (*_PICTURE, *_TEN_BITS, "-x264-params", "transfer=arib-std-b67"),
    "interlaced.ts": (*_MOVING, *_INTERLACED, "-field_order", "tt", "-c:v", "mpeg2video"),
    # A time base of whole frames, in which a field has no time.
    "interlaced.avi": (*_MOVING, *_INTERLACED, "-c:v", "mpeg2video"),
    "interlaced.mp4": (*_MOVING, *_INTERLACED, *_H264, "-x264-params", "tff=1"),
    "anamorphic.mp4": (*_BOTH, "-vf", "setsar=16/11", *_H264, *_AAC),
    "tall_pixels.mkv": (*_BOTH, "-vf", "setsar=8/9", *_VP9, "-c:a", "libopus"),
    "uneven.mp4": (
        *("-f", "lavfi", "-i", "testsrc=size=321x241:rate=25:duration=2", *_SOUND),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p", *_AAC),
    ),
    "turned_sound.mp4": ("-display_rotation", "-90", "-i", "{plain.mp4}", "-c", "copy"),
    "irregular.mkv": (
        *(*_BOTH, "-vf", "select='not(mod(n\\,7))+not(mod(n\\,5))'", "-fps_mode", "passthrough"),
        *(*_VP9, "-c:a", "flac"),
    ),
    "late.mkv": ("-itsoffset", "0.7", "-i", "{sound.m4a}", "-i", "{silent.mp4}", "-c", "copy"),
    "short_sound.mp4": ("-i", "{silent.mp4}", "-t", "1", "-i", "{sound.m4a}", "-c", "copy"),
    "unsigned.wav": (*_SOUND, "-c:a", "pcm_u8", "-ar", "8000"),
    "wide.wav": (*_SOUND, "-c:a", "pcm_s24le", "-ar", "96000", "-ac", "2"),
    "float.wav": (*_SOUND, "-c:a", "pcm_f32le", "-ar", "48000"),
    "six.flac": (*_SOUND, "-c:a", "flac", "-ar", "48000", "-ac", "6"),
    "six.mka": (*_SOUND, "-c:a", "ac3", "-ar", "48000", "-ac", "6"),
    "slow.mp3": (*_SOUND, "-ar", "8000", "-b:a", "16k"),
    "eleven.wav": (*_SOUND, "-ar", "11025"),
    "half.m4a": (*_SOUND, "-ar", "22050", "-ac", "2", *_AAC),
    "speech.opus": (*_SOUND, "-ar", "16000", "-c:a", "libopus", "-b:a", "24k"),
    "quiet.wav": ("-f", "lavfi", "-i", "anullsrc=sample_rate=44100:channel_layout=stereo:d=2"),
    "picture.png": (*_PICTURE, "-frames:v", "1"),
    "picture.jpg": (*_PICTURE, "-frames:v", "1"),
    "picture_small.jpg": (*_PICTURE, "-vf", "scale=16:16", "-frames:v", "1", "-q:v", "31"),
    "picture.webp": (*_PICTURE, "-frames:v", "1"),
    "picture.avif": (*_PICTURE, "-frames:v", "1", "-c:v", "libaom-av1", "-cpu-used", "8"),
    "moving.gif": (*_PICTURE, "-t", "0.4"),
    "moving.webp": (*_PICTURE, "-t", "0.4", "-c:v", "libwebp_anim"),
}


@functools.cache
def folder() -> Path:
    """Where the session's media are; removed when it ends."""
    path = Path(tempfile.mkdtemp(prefix="ingot-media-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    (path / "chapters.txt").write_text(_CHAPTERS)
    return path


@functools.cache
def media(name: str) -> Path:
    """The file of that name in RECIPES. Callers copy it before they change it."""
    path = folder() / name
    if name not in RECIPES:
        return path
    arguments = [
        str(media(argument[1:-1])) if argument.startswith("{") else argument
        for argument in RECIPES[name]
    ]
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-nostdin", "-hide_banner", "-loglevel", "error", "-threads", "1", "-y"),
            *arguments,
            str(path),
        ],
        check=True,
    )
    return path
