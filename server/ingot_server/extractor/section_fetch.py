"""Fetches a section of the selected formats, and cuts it out of them.

    HLS, DASH         only the segments that the section needs
    MP4, WebM         only the ranges that the index of the file names
    anything else     the whole file

If the segments have no key frame before the section begins, earlier ones are fetched, too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yt_dlp.utils

from ingot_server.extractor import formats
from ingot_server.extractor.audio_tracks import language
from ingot_server.extractor.file_ranges import FileRanges
from ingot_server.extractor.presentation import Track
from ingot_server.extractor.protocol import Request
from ingot_server.extractor.stretch import Stretch, stretch
from ingot_server.probe.probe_main import NamelessFile
from ingot_server.section.cut import Cut, NoKeyFrame, OutsideMedia, cut
from ingot_server.section.remote_file import NotIndexed
from ingot_server.section.tracks import Input

# How many seconds before the section are fetched to find a key frame.
_LEADS: Final = (0.0, 30.0, math.inf)


@dataclass(slots=True)
class SectionDownload:
    """A section that is being fetched: what the downloader of fragments has to know, and found."""

    start: float
    end: float
    exact: bool
    lead: float = 0.0
    found: Stretch | None = None
    """What was taken of the latest track; None if that was a whole file."""
    whole_seconds: float = 0.0
    """How long the manifests say that the media is; 0 if there are none."""

    def choose(self, track: Track) -> Stretch:
        """Return what to fetch of a track. Raises OutsideMedia."""
        if track.seconds and self.start >= track.seconds:
            raise OutsideMedia(
                f"The media lasts {track.seconds:g} s, and the section begins at {self.start:g} s"
            )
        self.whole_seconds = max(self.whole_seconds, track.seconds)
        self.found = stretch(track, self.start - self.lead, self.end)
        return self.found


def fetch_section(
    ydl: Any,
    info: Mapping[str, Any],
    directory: str,
    request: Request,
    progress: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Fetch a section of the formats that yt-dlp selected into one file in `directory`.

    `progress` is a progress hook of yt-dlp. Returns the message about the file. Raises
    OutsideMedia, Uncuttable, and what the downloaders raise.
    """
    assert request.section is not None
    start, end, exact = request.section
    section = ydl.section = SectionDownload(start, math.inf if end is None else end, exact)
    ydl.add_progress_hook(progress)
    for lead in _LEADS:
        section.lead = lead
        try:
            made = _fetch(ydl, info, directory, section, request, progress)
            break
        except NoKeyFrame:
            if math.isinf(lead):
                raise
    return {
        "kind": "fetched",
        "path": made.path,
        "manifest_seconds": 0.0,
        "bounds_seconds": None,
        "section": (made.start_seconds, made.whole_seconds),
    }


def _fetch(
    ydl: Any,
    info: Mapping[str, Any],
    directory: str,
    section: SectionDownload,
    request: Request,
    progress: Callable[[Mapping[str, Any]], None],
) -> Cut:
    for by_ranges in (True, False):
        inputs, paths = [], []
        for number, part in enumerate(formats.taken(info)):
            path = str(Path(directory, f"track-{number}.{part.get('ext') or 'bin'}"))
            paths.append(path)
            Path(path).unlink(missing_ok=True)
            taken = {**info, **part}
            remote = None
            if by_ranges and _is_file(taken):
                remote = FileRanges(ydl, taken, path, progress).open()
            if remote is not None:
                inputs.append(Input(remote, needs_index=True, language=language(part)))
                continue
            section.found = None
            done, _ = ydl.dl(path, taken)
            if not done:
                raise yt_dlp.utils.DownloadError("The format could not be downloaded")
            inputs.append(_input(path, section.found, language(part)))
        try:
            made = cut(
                inputs,
                directory,
                section.start,
                section.end,
                exact=section.exact,
                audio_only=request.audio_only,
                whole_seconds=section.whole_seconds or None,
            )
            break
        except NotIndexed:
            continue
    for path in paths:
        Path(path).unlink()
    return made


def _is_file(info: Mapping[str, Any]) -> bool:
    """Return whether a format is one file over HTTP, of which ranges can be requested."""
    return info.get("protocol") in {"http", "https"} and not info.get("fragments")


def _input(path: str, found: Stretch | None, spoken: str) -> Input:
    file = NamelessFile(io.FileIO(path))
    if found is None:
        return Input(file, language=spoken)
    if len(found.track.parts) > 1:
        # Joined parts have the clock of the media.
        return Input(file, found.begins_at, 0.0, shares_clock=False, language=spoken)
    return Input(file, found.begins_at, found.clock, language=spoken)
