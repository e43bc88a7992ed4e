"""What is cut out of real files. FFmpeg made them, and reads the results."""

from __future__ import annotations

import math
from pathlib import Path

import av
import pytest

from ingot_server.probe.probe_main import NamelessFile
from ingot_server.section.cut import Cut, NoExactCut, NoKeyFrame, OutsideMedia, cut
from ingot_server.section.remote_file import NotIndexed
from ingot_server.section.tracks import Input, Uncuttable
from tests.media import media


def section_of(name: str, directory: Path, start: float, end: float, *, exact: bool = False) -> Cut:
    with media(name).open("rb", buffering=0) as file:
        return cut([Input(NamelessFile(file))], str(directory), start, end, exact=exact)


@pytest.mark.parametrize(
    ("name", "start", "begins_at", "seconds", "extension"),
    [
        ("faststart.mp4", 0.5, 0, 1.5, "mp4"),
        ("fragmented.mp4", 1.2, 1.02, 0.5, "mp4"),
        ("clip.webm", 0.5, 0, 1.5, "webm"),
        ("clip.avi", 0.5, 0, 1.5, "mp4"),
        ("clip.flv", 0.8, 0.5, 1, "flv"),
        ("several.mkv", 0.5, 0, 1.5, "mp4"),
        ("pcm.mov", 0.5, 0, 1.5, "mkv"),
        ("variable.mp3", 0.5, 0.5, 1, "mp3"),
        ("sound.wav", 0.5, 0.5, 1, "wav"),
        ("sound.flac", 0.5, 0.5, 1, "m4a"),
        ("vorbis.ogg", 0.5, 0.5, 1, "webm"),
        ("raw.aac", 0.5, 0.5, 1, "m4a"),
        ("cover.m4a", 0.5, 0.5, 1, "m4a"),
    ],
)
def test_files_of_every_kind_are_cut(
    tmp_path: Path, name: str, start: float, begins_at: float, seconds: float, extension: str
) -> None:
    made = section_of(name, tmp_path, start, 1.5)

    assert made.start_seconds == pytest.approx(begins_at, abs=0.05)
    assert made.path.endswith(f".{extension}")
    with av.open(made.path) as found:
        assert (found.duration or 0) / 1e6 == pytest.approx(seconds, abs=0.15)


@pytest.mark.parametrize(
    ("name", "begins_at", "extension"),
    [
        ("faststart.mp4", 0.5, "mp4"),
        ("fragmented.mp4", 0.5, "mp4"),
        ("clip.avi", 0.5, "mp4"),
        ("several.mkv", 0.5, "mp4"),
        ("raw.aac", 0.5, "m4a"),
        ("sound.flac", 0.5, "m4a"),
        ("vorbis.ogg", 0.48, "webm"),
        ("variable.mp3", 0.48, "mp3"),
    ],
)
def test_an_exact_section_lasts_as_long_as_it_should(
    tmp_path: Path, name: str, begins_at: float, extension: str
) -> None:
    made = section_of(name, tmp_path, 0.5, 1.3, exact=True)

    assert made.start_seconds == pytest.approx(begins_at, abs=0.025)
    assert made.path.endswith(f".{extension}")
    with av.open(made.path) as found:
        assert (found.duration or 0) / 1e6 == pytest.approx(1.3 - begins_at, abs=0.03)


def test_tags_and_chapters_are_those_of_the_section(tmp_path: Path) -> None:
    made = section_of("chapters.m4a", tmp_path, 0.5, 1.5)

    with av.open(made.path) as found:
        assert found.metadata["title"] == "Two Parts"
        chapters = [
            (each["metadata"]["title"], float(each["start"] * (each["time_base"] or 0)))
            for each in found.chapters()
        ]
    assert chapters == [("First", 0), ("Second", pytest.approx(0.8 - made.start_seconds, abs=0.01))]


def test_what_cannot_be_cut_says_why(tmp_path: Path) -> None:
    with pytest.raises(OutsideMedia, match="lasts 2 s, and the section begins at 3 s"):
        section_of("silent.mp4", tmp_path, 3, math.inf)
    with pytest.raises(Uncuttable):
        section_of("picture.png", tmp_path, 0, 1)
    with pytest.raises(NoExactCut, match="convert that to `mp4`"):
        section_of("pcm.mov", tmp_path, 0.5, 1, exact=True)
    with media("variable.mp3").open("rb", buffering=0) as file, pytest.raises(NotIndexed):
        cut([Input(NamelessFile(file), needs_index=True)], str(tmp_path), 0.5, 1)
    with media("silent.mp4").open("rb", buffering=0) as file, pytest.raises(NoKeyFrame):
        # Segments that begin at 10 s, of which the first key frame is later than the section.
        cut([Input(NamelessFile(file), begins_at=10)], str(tmp_path), 9, 11)
