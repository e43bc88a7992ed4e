"""HLS and DASH of two seconds, made by ffmpeg: one folder of files for each way of packing them."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg

from tests.media import folder, media
from tests.origin import Origin, Page

KEY = bytes(range(16))
TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".ts": "video/mp2t",
    ".m4s": "video/mp4",
    ".mp4": "video/mp4",
    ".aac": "audio/aac",
    ".key": "application/octet-stream",
}

_HLS = ("-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod")
_COPY = ("-c", "copy")
# The video as it is, and once more half as high.
_TWO_HEIGHTS = (
    *("-map", "0:v", "-map", "0:v", "-map", "0:a", "-c:a", "copy", "-c:v", "libx264", "-g", "25"),
    *("-preset", "ultrafast", "-s:v:1", "80x60", "-b:v:0", "300k", "-b:v:1", "100k"),
)
# Name of the manifest, then ffmpeg's arguments before its path.
PACKINGS: dict[str, tuple[str, ...]] = {
    "hls": ("list.m3u8", *_COPY, *_HLS),
    "hls-encrypted": ("list.m3u8", *_COPY, *_HLS, "-hls_key_info_file", "{key}"),
    "hls-fmp4": ("list.m3u8", *_COPY, *_HLS, "-hls_segment_type", "fmp4"),
    "hls-byte-ranges": ("list.m3u8", *_COPY, *_HLS, "-hls_flags", "single_file"),
    "hls-fmp4-byte-ranges": (
        *("list.m3u8", *_COPY, *_HLS, "-hls_segment_type", "fmp4", "-hls_flags", "single_file"),
    ),
    "hls-renditions": (
        *("stream-%v.m3u8", *_TWO_HEIGHTS, *_HLS, "-master_pl_name", "list.m3u8"),
        *("-var_stream_map", "v:0,agroup:sound v:1,agroup:sound a:0,agroup:sound,default:yes"),
    ),
    "hls-fmp4-renditions": (
        *("stream-%v.m3u8", *_COPY, "-map", "0:v", "-map", "0:a", *_HLS),
        *("-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init-%v.mp4"),
        *("-master_pl_name", "list.m3u8"),
        *("-var_stream_map", "v:0,agroup:sound a:0,agroup:sound,default:yes"),
    ),
    # Each segment of its sound is raw AAC behind an ID3 tag (RFC 8216, section 3.4).
    "hls-packed-audio": (
        *("stream.m3u8", "-map", "0:a", *_COPY, "-f", "segment", "-segment_time", "1"),
        *("-segment_list", "sound.m3u8", "-segment_format", "adts"),
        *("-segment_format_options", "write_id3v2=1", "sound%d.aac", "-map", "0:v", *_COPY, *_HLS),
    ),
    "dash": ("list.mpd", *_TWO_HEIGHTS, "-f", "dash", "-seg_duration", "1"),
    "dash-one-file": (
        *("list.mpd", *_TWO_HEIGHTS, "-f", "dash", "-seg_duration", "1"),
        *("-single_file", "1"),
    ),
}
# As most packagers write it: the codecs are those of the variant, with its sound.
_PACKED_AUDIO = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="sound",NAME="English",DEFAULT=YES,URI="sound.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=90000,CODECS="avc1.42c00b,mp4a.40.2",RESOLUTION=160x120,AUDIO="sound"
stream.m3u8
"""
HEIGHTS = ("hls-renditions", "dash", "dash-one-file")
# Two languages: English in mono, which is the default one of HLS, and German in stereo.
_TWO_LANGUAGES = (
    *("-map", "0:v", "-map", "0:a", "-map", "0:a", "-c:v", "copy", "-c:a", "aac", "-ac:a:1", "2"),
    *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"),
)
LANGUAGES: dict[str, tuple[str, ...]] = {
    "hls-languages": (
        *("stream-%v.m3u8", *_TWO_LANGUAGES, *_HLS, "-master_pl_name", "list.m3u8"),
        "-var_stream_map",
        "a:0,agroup:sound,language:en,default:yes a:1,agroup:sound,language:de v:0,agroup:sound",
    ),
    "dash-languages": ("list.mpd", *_TWO_LANGUAGES, "-f", "dash", "-seg_duration", "1"),
}


@functools.cache
def packed(name: str) -> Path:
    """A folder with the manifest `list.*` and all it names."""
    directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder()))
    key = folder() / "secret.key"
    key.write_bytes(KEY)
    info = folder() / "key.info"
    info.write_text(f"secret.key\n{key}\n")
    manifest, *arguments = {**PACKINGS, **LANGUAGES}[name]
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-nostdin", "-loglevel", "error", "-i", str(media("plain.mp4"))),
            *(str(info) if argument == "{key}" else argument for argument in arguments),
            str(directory / manifest),
        ],
        check=True,
        cwd=directory,
    )
    if name == "dash-one-file":
        # As the on-demand profile has it (ISO/IEC 23009-1, 8.3): players read the file's own index.
        listed = directory / "list.mpd"
        text = re.sub(r"(?s)<SegmentList.*?</SegmentList>", "<SegmentBase/>", listed.read_text())
        listed.write_text(text)
    if name == "hls-packed-audio":
        (directory / "list.m3u8").write_text(_PACKED_AUDIO)
    if name == "hls-encrypted":
        (directory / "secret.key").write_bytes(KEY)
    return directory


def serve_manifest(origin: Origin, name: str, *, at: str = "", content_type: str = "") -> str:
    """Publishes a packing, its manifest `at` a path and with a type of its own; its URL."""
    url = ""
    for file in packed(name).iterdir():
        page = Page(file.read_bytes(), content_type=TYPES[file.suffix])
        path = f"/{file.name}"
        if file.stem == "list" and file.suffix in {".m3u8", ".mpd"}:
            path = at or path
            page.content_type = content_type or page.content_type
            url = origin.url(path)
        origin.serve(path, page)
    return url
