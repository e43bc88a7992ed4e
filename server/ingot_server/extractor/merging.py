"""The container of video and audio that arrive apart: one that browsers play, if any holds them.

It runs in the extraction child. yt-dlp decides by what a source says about its codecs, which is
often nothing, and takes Matroska then. Here the files decide, after they have arrived.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yt_dlp.utils
from yt_dlp.postprocessor.ffmpeg import FFmpegMergerPP

from ingot_server.extractor.audio_tracks import Role, language, role
from ingot_server.section.output_container import container_of

_STREAM: Final = re.compile(r"^ *Stream #\d+:\d+.*?: (?:Audio|Video): (\w+)", re.MULTILINE)
# As ffmpeg names them; a player takes the first stream by itself.
_DISPOSITIONS: Final = {
    Role.ORIGINAL: ["original"],
    Role.DUBBED: ["dub"],
    Role.DESCRIBED: ["visual_impaired"],
    Role.COMMENTARY: ["comment"],
    Role.UNKNOWN: [],
}


def choose_containers_by_content() -> None:
    """Make yt-dlp merge files into what `container_of` says."""
    # YoutubeDL takes its merger from its own module; there is no hook.
    sys.modules["yt_dlp.YoutubeDL"].FFmpegMergerPP = MergerPP  # type: ignore[attr-defined]


class MergerPP(FFmpegMergerPP):  # type: ignore[misc] # untyped
    """yt-dlp's merger, under the name by which `fragments.py` gives it arguments."""

    def run(self, info: dict[str, Any]) -> Any:
        extension = container_of(self._codecs(info["__files_to_merge"]))
        info["filepath"] = yt_dlp.utils.replace_extension(
            info["filepath"], extension, info.get("ext")
        )
        info["ext"] = extension
        self._audio_marks = _audio_marks(info)
        return super().run(info)

    def run_ffmpeg_multiple_files(
        self, input_paths: Sequence[str], out_path: str, opts: Sequence[str], **kwargs: Any
    ) -> Any:
        return super().run_ffmpeg_multiple_files(
            input_paths, out_path, [*opts, *self._audio_marks], **kwargs
        )

    def _codecs(self, paths: Sequence[str]) -> list[str]:
        """Return the codecs of the streams in the files; ffmpeg lists them if it has no output."""
        inputs = [part for path in paths for part in ("-i", f"file:{path}")]
        _, log, _ = yt_dlp.utils.Popen.run(
            [self.executable, "-hide_banner", *inputs],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        return _STREAM.findall(log)


def _audio_marks(info: Mapping[str, Any]) -> list[str]:
    """Return what tells a player the streams of several apart; nothing for one."""
    parts = [each for each in info["requested_formats"] if each.get("acodec") != "none"]
    offered = info.get("formats") or parts
    marks: list[str] = []
    for number, part in enumerate(parts if len(parts) > 1 else ()):
        code = yt_dlp.utils.ISO639Utils.short2long(language(part).partition("-")[0])
        flags = [*(["default"] if number == 0 else []), *_DISPOSITIONS[role(part, offered)]]
        marks += [f"-metadata:s:a:{number}", f"language={code or language(part)}"]
        marks += [f"-disposition:a:{number}", "+".join(flags) or "0"]
    return marks
