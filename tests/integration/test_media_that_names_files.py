"""Containers that name other files and servers: nothing is read, and nothing is reached.

Text that describes media is in test_probe.py and test_transcoder.py. These are real containers.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import imageio_ffmpeg
import pytest

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import tags_for
from ingot_server.transcode.transcoder import Transcoder
from tests.media import media
from tests.recipes import make_recipe

HOLDING_BOXES: Final = (b"moov", b"trak", b"mdia", b"minf", b"dinf")
SUBTITLES: Final = "1\n00:00:00,000 --> 00:00:01,000\nA bell\n"
PLAYLIST: Final = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n"


@dataclass(frozen=True)
class Canary:
    """A file and a server that no one may open."""

    path: Path
    server: socket.socket

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.getsockname()[1]}/clip.ts"

    def was_reached(self) -> bool:
        """Whether someone has connected to the server."""
        with suppress(BlockingIOError):
            self.server.accept()[0].close()
            return True
        return False


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    path = tmp_path / "canary.ts"
    os.mkfifo(path)  # Who opens it waits, and the test would run out of time.
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield Canary(path, server)


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    prober = Prober(Settings())
    prober.start()
    yield prober
    await prober.close()


def with_reference(data: bytes, reference: bytes) -> bytes:
    """Return an MP4 file, whose index is at its end, that has its tracks' bytes elsewhere."""
    found, position = b"", 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + length]
        if kind in HOLDING_BOXES:
            body = with_reference(body, reference)
        elif kind == b"dref":
            body = bytes(4) + struct.pack(">I", 1) + reference
        found += struct.pack(">I4s", 8 + len(body), kind) + body
        position += length
    return found


def by_url(target: str) -> bytes:
    """A data reference by URL (ISO/IEC 14496-12, 8.7.2)."""
    location = target.encode() + b"\0"
    return struct.pack(">I4sI", 12 + len(location), b"url ", 0) + location


def by_alias(target: str) -> bytes:
    """A data reference by an alias record of Mac OS, with an absolute path (type 2)."""
    name = Path(target).name.encode()
    head = struct.pack(">4sHH", bytes(4), 150, 2) + bytes(2 + 1 + 27 + 12)
    head += bytes([len(name)]) + name.ljust(63, b"\0")
    head += bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    path = target.encode()
    body = head + struct.pack(">HH", 2, len(path)) + path + bytes(len(path) % 2)
    body += struct.pack(">HH", 0xFFFF, 0) + bytes(40)
    return struct.pack(">I4sI", 12 + len(body), b"alis", 0) + body


def with_subtitles(text: str) -> bytes:
    """An AVI file with a track of subtitles, as DivX has them, that holds `text` as a whole."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack("<4sI", name, len(data)) + data + bytes(len(data) % 2)

    def listed(name: bytes, *chunks: bytes) -> bytes:
        return chunk(b"LIST", name + b"".join(chunks))

    def stream(kind: bytes, codec: bytes, form: bytes) -> bytes:
        head = struct.pack("<4s4s10I4H", kind, codec, *(0, 0, 0, 1, 25, 0, 50, 0, 0, 0), *[0] * 4)
        return listed(b"strl", chunk(b"strh", head), chunk(b"strf", form))

    picture = bytes(16 * 16 * 3)
    form = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 24, 0, len(picture), 0, 0, 0, 0)
    main = struct.pack("<10I", 40_000, 0, 0, 0x100, 50, 0, 2, 0, 16, 16) + bytes(16)
    held = text.encode()
    subtitles = b"GAB2\0" + struct.pack("<HI", 2, 2) + bytes(2)
    subtitles += struct.pack("<HI", 4, len(held)) + held
    movie = [chunk(b"01tx", subtitles), *[chunk(b"00db", picture)] * 50]
    body = listed(
        b"hdrl",
        chunk(b"avih", main),
        stream(b"vids", b"DIB ", form),
        stream(b"txts", bytes(4), b""),
    ) + listed(b"movi", *movie)
    return chunk(b"RIFF", b"AVI " + body)


def shown_by_ffmpeg(path: Path, *options: str) -> str:
    """What an ffmpeg without confinement reports about the file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *options, "-i", str(path), "-f", "null", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stderr


async def use(prober: Prober, path: Path, directory: Path) -> None:
    """Probe the file, and convert it in all ways, whatever the prober says."""
    with suppress(Failure):
        await prober.probe(path)
    found = await prober.probe(media("plain.mp4"))
    for name in ("mp3", "mp4", "image"):
        target = directory / name
        target.mkdir()
        plan = plan_conversion(canonical_recipe(make_recipe(name)), found)
        with suppress(Failure):
            await Transcoder(Ffmpeg(Settings()), prober).transcode(
                plan, path, target, tags_for(plan)
            )


@pytest.mark.parametrize("make", [by_url, by_alias])
@pytest.mark.parametrize("kind", ["path", "file URL", "URL"])
async def test_tracks_that_are_said_to_be_elsewhere_are_not_looked_for(
    prober: Prober, canary: Canary, tmp_path: Path, make: Callable[[str], bytes], kind: str
) -> None:
    target = {"path": str(canary.path), "file URL": f"file://{canary.path}", "URL": canary.url}
    path = tmp_path / "clip.mov"
    path.write_bytes(with_reference(media("plain.mp4").read_bytes(), make(target[kind])))

    await use(prober, path, tmp_path)

    assert not canary.was_reached()


def test_without_our_options_ffmpeg_would_look_for_such_a_track(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    data = with_reference(media("plain.mp4").read_bytes(), by_alias(str(elsewhere)))
    path = tmp_path / "clip.mov"
    path.write_bytes(data)

    said = shown_by_ffmpeg(path, "-enable_drefs", "1", "-use_absolute_path", "1")

    assert str(elsewhere) in said


@pytest.mark.parametrize("kind", ["path", "URL"])
async def test_a_playlist_in_an_avi_file_is_not_followed(
    prober: Prober, canary: Canary, tmp_path: Path, kind: str
) -> None:
    target = {"path": str(canary.path), "URL": canary.url}[kind]
    path = tmp_path / "clip.avi"
    path.write_bytes(with_subtitles(PLAYLIST.format(target=target)))

    await use(prober, path, tmp_path)

    assert not canary.was_reached()


async def test_ffmpeg_reads_what_is_in_the_subtitles_of_such_an_avi_file(
    prober: Prober, tmp_path: Path
) -> None:
    path = tmp_path / "clip.avi"
    path.write_bytes(with_subtitles(SUBTITLES))

    assert "subrip" in shown_by_ffmpeg(path)
    assert (await prober.probe(path)).video[0].width == 16
