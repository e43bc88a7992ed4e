from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import AudioStream, Media, VideoStream
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.probe.prober import MEMORY_BYTES, Prober
from ingot_server.process.child import ChildProcess
from ingot_server.process.limits import Limits
from tests.installation import descendants
from tests.media import SECONDS, media
from tests.prepared_programs import DIRECTORY
from tests.waiting import until

MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
H264 = "h264 160x120 25 yuv420p"
AAC = "aac 44100 1"

# name: media type, format, video, audio; all of them last two seconds unless LENGTHS says another.
FILES: dict[str, tuple[str, str, list[str], list[str]]] = {
    "plain.mp4": ("video/mp4", MP4, [H264], [AAC]),
    "faststart.mp4": ("video/mp4", MP4, [H264], [AAC]),
    "fragmented.mp4": ("video/mp4", MP4, ["h264 160x120 24.7123 yuv420p"], [AAC]),
    "silent.mp4": ("video/mp4", MP4, [H264], []),
    "odd.mp4": ("video/mp4", MP4, ["h264 99x77 25 yuv444p"], []),
    "tiny.mp4": ("video/mp4", MP4, [H264], [AAC]),
    "hevc.mp4": ("video/mp4", MP4, ["hevc 160x120 25 gbrp"], []),
    "av1.mp4": ("video/mp4", MP4, ["av1 160x120 25 gbrp"], []),
    "turned.mov": ("video/quicktime", MP4, [H264 + " 90"], []),
    "upside.mp4": ("video/mp4", MP4, [H264 + " 180"], []),
    "pcm.mov": ("video/quicktime", MP4, [H264], ["pcm_s16le 44100 1"]),
    "slides.mkv": ("video/x-matroska", "matroska,webm", ["h264 160x120 1 yuv420p"], []),
    "several.mkv": (
        *("video/x-matroska", "matroska,webm", [H264]),
        ["aac 44100 1 eng", "ac3 44100 2 deu"],
    ),
    "live.mkv": ("video/x-matroska", "matroska,webm", [H264], [AAC]),
    "clip.webm": ("video/webm", "matroska,webm", ["vp9 160x120 25 gbrp"], ["opus 48000 1"]),
    "sound.webm": ("audio/webm", "matroska,webm", [], ["opus 48000 1"]),
    "constant.mp3": ("audio/mpeg", "mp3", [], ["mp3 44100 1"]),
    "unheaded.mp3": ("audio/mpeg", "mp3", [], ["mp3 44100 1"]),
    "variable.mp3": ("audio/mpeg", "mp3", [], ["mp3 44100 1"]),
    "cover.mp3": ("audio/mpeg", "mp3", [], ["mp3 44100 1"]),
    "cover.m4a": ("audio/mp4", MP4, [], [AAC]),
    "sound.m4a": ("audio/mp4", MP4, [], [AAC]),
    "chapters.m4a": ("audio/mp4", MP4, [], [AAC]),
    "raw.aac": ("audio/aac", "aac", [], [AAC]),
    "sound.ac3": ("audio/ac3", "ac3", [], ["ac3 44100 1"]),
    "sound.flac": ("audio/flac", "flac", [], ["flac 44100 1"]),
    "sound.wav": ("audio/wav", "wav", [], ["pcm_s16le 44100 1"]),
    "sound.aiff": ("audio/aiff", "aiff", [], ["pcm_s16be 44100 1"]),
    "vorbis.ogg": ("audio/ogg", "ogg", [], ["vorbis 44100 1"]),
    "sound.opus": ("audio/ogg", "ogg", [], ["opus 48000 1"]),
    "clip.ts": ("video/mp2t", "mpegts", [H264], [AAC]),
    "clip.mpg": ("video/mpeg", "mpeg", ["mpeg2video 160x120 25 yuv420p"], ["mp2 44100 1"]),
    "clip.avi": ("video/x-msvideo", "avi", ["mpeg4 160x120 25 yuv420p"], ["mp3 44100 1"]),
    "clip.flv": ("video/x-flv", "flv", ["flv1 160x120 25 yuv420p"], ["mp3 44100 1"]),
    "clip.wmv": ("video/x-ms-asf", "asf", ["wmv2 160x120 25 yuv420p"], ["wmav2 44100 1"]),
}
LENGTHS = {"tiny.mp4": 0.1, "hevc.mp4": 0.4, "av1.mp4": 0.4}
# Cut between two of their frames, nothing in these files tells: only the transfer's length can. A
# Matroska or fragmented mp4 of unknown size cut between two clusters or fragments is another one.
FRAMES_ONLY: dict[str, Callable[[bytes], bytes]] = {
    "constant.mp3": lambda data: data[: 209 * 40],
    "sound.ac3": lambda data: data[: 418 * 30],
    "clip.mpg": lambda data: data[: data.index(b"\0\0\1\xba", len(data) // 2)],
}

PAGES = {
    "empty": b"",
    "one byte": b"\0",
    "a page": b"<!DOCTYPE html><html><body>Not found</body></html>",
    "text": b"Not found",
    "json": b'{"error": "not found"}',
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><animate dur="5s"/></svg>',
    "srt": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 20,
    "vtt": b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n",
    "ass": b"[Script Info]\nScriptType: v4.00+\n",
    "pdf": b"%PDF-1.7\n" + bytes(range(256)) * 20,
    "zip": b"PK\x03\x04" + bytes(range(256)) * 20,
    "zeros": bytes(100_000),
}
PICTURES = (
    "picture.png",
    "picture.jpg",
    "picture.webp",
    "picture.avif",
    "moving.gif",
    "moving.webp",
)
PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
    "m3u8 with a file URL": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{path}\n",
    "indented m3u8": "\n\n#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{path}'\n",
    "bare concat": "file '{path}'\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    "<Period><AdaptationSet><Representation id='1'><BaseURL>{path}</BaseURL>"
    "</Representation></AdaptationSet></Period></MPD>",
    "sdp": "v=0\nm=audio 5004 RTP/AVP 0\nc=IN IP4 127.0.0.1\na=control:{path}\n",
    "m3u": "{path}\n",
    "an mp4's head before it": "\0\0\0\x18ftypisom\0\0\2\0isomiso2#EXTM3U\n{path}\n",
}


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes are forked from a process of this test, which it can see to its end."""
    monkeypatch.delenv(DIRECTORY)


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    prober = Prober(Settings())
    prober.start()
    yield prober
    await prober.close()


async def refusal(prober: Prober, path: Path) -> tuple[str, str]:
    with pytest.raises(Failure) as caught:
        await prober.probe(path)
    return reason_name(caught.value.reason), caught.value.message


async def each(count: int, work: Callable[[int], Coroutine[None, None, None]]) -> None:
    """Awaits work(0), work(1), ... at once; the prober holds back all but a few."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(work(number))


def video(found: Media) -> list[str]:
    return [
        f"{s.codec} {s.width}x{s.height} {float(frame_rate(s)):g} {s.pixel_format}"
        + (f" {s.rotation}" if s.rotation else "")
        for s in found.video
    ]


def frame_rate(stream: VideoStream) -> Fraction:
    return Fraction(stream.frame_rate.numerator, stream.frame_rate.denominator)


def audio(found: Media) -> list[str]:
    return [f"{s.codec} {s.sample_rate_hz} {s.channels} {s.language}".strip() for s in found.audio]


@pytest.mark.slow
async def test_every_kind_of_file_is_described(prober: Prober) -> None:
    async def check(number: int) -> None:
        name, (content_type, format_name, pictures, sounds) = list(FILES.items())[number]
        found = await prober.probe(media(name))
        assert (found.blob.content_type, found.format_name) == (content_type, format_name), name
        assert (video(found), audio(found)) == (pictures, sounds), name
        length = found.duration.ToTimedelta().total_seconds()
        assert length == pytest.approx(LENGTHS.get(name, SECONDS), abs=0.1), name
        streams: list[VideoStream | AudioStream] = [*found.video, *found.audio]
        for stream in streams:
            assert stream.bitrate_bps > 0, name
            assert not stream.url
            if stream.HasField("duration"):
                assert stream.duration.ToTimedelta().total_seconds() <= length + 0.1, name

    await each(len(FILES), check)


async def test_a_frame_rate_is_exact(prober: Prober) -> None:
    found = await prober.probe(media("ntsc.mp4"))
    assert frame_rate(found.video[0]) == Fraction(30000, 1001)


async def test_tags_and_chapters_are_read(prober: Prober) -> None:
    for name in ("plain.mp4", "variable.mp3", "vorbis.ogg", "sound.flac"):
        found = await prober.probe(media(name))
        assert found.title == "Bell of the Day"
        assert found.file_tags["artist"] == "Ingot"
    found = await prober.probe(media("chapters.m4a"))
    assert [
        (c.title, c.start_offset.ToMilliseconds(), c.end_offset.ToMilliseconds())
        for c in found.chapters
    ] == [("First", 0, 800), ("Second", 800, 2000)]


async def test_tags_that_are_not_utf8_are_marked(prober: Prober, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(media("plain.mp4").read_bytes().replace(b"Bell of", b"B\xe9ll of"))
    found = await prober.probe(path)
    assert found.title == "B\ufffdll of the Day"


async def test_profiles_are_named(prober: Prober) -> None:
    found = await prober.probe(media("plain.mp4"))
    assert found.video[0].profile == "Constrained Baseline"
    assert found.audio[0].profile == "LC"


async def test_the_true_length_is_known_where_no_header_says_it(prober: Prober) -> None:
    for name in ("unheaded.mp3", "raw.aac"):
        found = await prober.probe(media(name))
        frames = 78 if name == "unheaded.mp3" else 88
        size = 1152 if name == "unheaded.mp3" else 1024
        assert found.duration.ToMilliseconds() == frames * size * 1000 // 44100
        assert found.audio[0].duration == found.duration


@pytest.mark.slow
async def test_a_file_that_was_cut_off_is_refused(prober: Prober, tmp_path: Path) -> None:
    async def check(number: int) -> None:
        name = list(FILES)[number]
        data = media(name).read_bytes()
        path = tmp_path / f"cut-{name}"
        path.write_bytes(data[: len(data) * 6 // 10])
        reason, message = await refusal(prober, path)
        assert reason == "TRUNCATED", (name, message)
        assert message.startswith("The file is incomplete: "), message

    await each(len(FILES), check)


async def test_only_a_cut_between_frames_goes_unseen(prober: Prober, tmp_path: Path) -> None:
    for name, cut in FRAMES_ONLY.items():
        path = tmp_path / name
        path.write_bytes(cut(media(name).read_bytes()))
        found = await prober.probe(path)
        assert found.duration.ToTimedelta() < timedelta(seconds=1.5)


async def test_a_file_allocated_ahead_of_its_bytes_is_refused(
    prober: Prober, tmp_path: Path
) -> None:
    for name in ("faststart.mp4", "several.mkv", "clip.ts", "clip.avi", "unheaded.mp3"):
        data = media(name).read_bytes()
        path = tmp_path / name
        path.write_bytes(data[: len(data) * 6 // 10].ljust(len(data), b"\0"))
        assert (await refusal(prober, path))[0] == "TRUNCATED", name


UNKNOWN_LENGTHS = (0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def wav_from_a_pipe(riff_length: int, data_length: int) -> bytes:
    data = bytearray(media("sound.wav").read_bytes())
    data[4:8] = riff_length.to_bytes(4, "little")
    at = data.index(b"data") + 4
    data[at : at + 4] = data_length.to_bytes(4, "little")
    return bytes(data)


async def test_a_wav_from_a_pipe_is_as_long_as_it_is(prober: Prober, tmp_path: Path) -> None:
    # ffmpeg and sox repeat the size, arecord and speech services add the header, modulo 2^32.
    sizes = [(each, each) for each in UNKNOWN_LENGTHS]
    sizes += [((each + 36) % (1 << 32), each) for each in UNKNOWN_LENGTHS]

    async def check(number: int) -> None:
        path = tmp_path / f"{number}.wav"
        path.write_bytes(wav_from_a_pipe(*sizes[number]))
        found = await prober.probe(path)
        assert found.duration.ToTimedelta() == timedelta(seconds=SECONDS), sizes[number]
        assert found.audio[0].duration == found.duration

    await each(len(sizes), check)


async def test_a_wav_whose_sizes_have_wrapped_is_refused(prober: Prober, tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(media("sound.wav").read_bytes())
    os.truncate(path, path.stat().st_size + (1 << 32))
    reason, message = await refusal(prober, path)
    assert reason == "NOT_MEDIA"
    assert message.startswith("The file has more than 4 GiB, which WAV cannot hold"), message


def without_the_last_page(data: bytes) -> bytes:
    return data[: data.rindex(b"OggS")]


def with_a_stale_header(data: bytes) -> bytes:
    """An MP3 whose Xing header counts twice as many frames as there are."""
    at = data.index(b"Xing") + 8
    frames = int.from_bytes(data[at : at + 4])
    return data[:at] + (2 * frames).to_bytes(4) + data[at + 4 :]


STREAMED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "Ogg without an end flag": ("short_pages.ogg", without_the_last_page),
    "MP3 with a stale header": ("variable.mp3", with_a_stale_header),
    "MP3 with zeros behind it": ("unheaded.mp3", lambda data: data + bytes(8192)),
    "MPEG-TS with half a packet": ("clip.ts", lambda data: data + data[:100]),
}


@pytest.mark.parametrize("name", STREAMED)
async def test_a_streamed_file_that_was_delivered_whole_is_as_long_as_it_is(
    prober: Prober, tmp_path: Path, name: str
) -> None:
    source, change = STREAMED[name]
    path = tmp_path / source
    path.write_bytes(change(media(source).read_bytes()))
    found = await prober.probe(path, delivered=True)
    assert found.duration.ToTimedelta().total_seconds() == pytest.approx(SECONDS, abs=0.1)
    assert (await refusal(prober, path))[0] == "TRUNCATED"


@pytest.mark.slow
async def test_other_formats_are_refused_when_cut_although_delivered_whole(
    prober: Prober, tmp_path: Path
) -> None:
    names = [name for name in FILES if not name.endswith((".mp3", "ac3", "aac", "ogg", "opus"))]
    names = [name for name in names if not name.endswith((".ts", ".mpg"))]

    async def check(number: int) -> None:
        data = media(names[number]).read_bytes()
        path = tmp_path / names[number]
        path.write_bytes(data[: len(data) * 6 // 10])
        with pytest.raises(Failure, match="The file is incomplete"):
            await prober.probe(path, delivered=True)

    await each(len(names), check)


async def test_the_length_is_that_of_what_is_there_although_the_clock_jumps(
    prober: Prober, tmp_path: Path
) -> None:
    for parts in (
        ("clip.ts", "ten_hours_later.ts"),
        ("ten_hours_later.ts", "clip.ts"),
        ("vorbis.ogg", "other_vorbis.ogg"),
        ("vorbis.ogg", "vorbis.ogg"),
    ):
        path = tmp_path / parts[0]
        path.write_bytes(b"".join(media(part).read_bytes() for part in parts))
        found = await prober.probe(path)
        assert found.duration.ToTimedelta().total_seconds() == pytest.approx(4, abs=0.15), parts


async def test_a_cover_that_is_a_video_track_is_no_video(prober: Prober) -> None:
    found = await prober.probe(media("film_cover.m4a"))
    assert (found.blob.content_type, video(found), audio(found)) == ("audio/mp4", [], [AAC])
    head = await prober.probe_head(media("film_cover.m4a"))
    assert not head.video


async def test_silence_and_padding_do_not_count_as_truncation(
    prober: Prober, tmp_path: Path
) -> None:
    path = tmp_path / "silence.wav"
    data = media("sound.wav").read_bytes()
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    await prober.probe(path)
    path = tmp_path / "padded.mp4"
    path.write_bytes(media("plain.mp4").read_bytes() + b"\0\0\x40\0free" + bytes((64 << 8) - 8))
    await prober.probe(path)


async def test_tags_after_the_last_frame_do_not_count_as_truncation(
    prober: Prober, tmp_path: Path
) -> None:
    item = b"\x05\0\0\0\0\0\0\0Artist\0Ingot"
    footer = (
        b"APETAGEX\xd0\7\0\0" + (len(item) + 32).to_bytes(4, "little") + b"\1\0\0\0" + bytes(12)
    )
    tags = {"ape": item + footer, "id3": b"TAG" + b"Bell".ljust(125, b"\0")}
    tags["both"] = tags["ape"] + tags["id3"]
    for kind, tag in tags.items():
        for name in ("constant.mp3", "variable.mp3"):
            path = tmp_path / f"{kind}-{name}"
            path.write_bytes(media(name).read_bytes() + tag)
            found = await prober.probe(path)
            assert found.duration.ToTimedelta().total_seconds() == pytest.approx(2, abs=0.07)


async def test_a_file_without_media_is_refused(prober: Prober, tmp_path: Path) -> None:
    inputs = PAGES | {name: media(name).read_bytes() for name in PICTURES}
    inputs |= {f"random {seed}": random.Random(seed).randbytes(50_000) for seed in range(5)}

    async def check(number: int) -> None:
        name, data = list(inputs.items())[number]
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        reason, message = await refusal(prober, path)
        assert reason == "NOT_MEDIA", (name, message)
        assert message.startswith("The file "), message

    await each(len(inputs), check)


async def test_the_message_says_what_it_is_instead(prober: Prober, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    for name, said in {"empty": "empty", "a page": "web page", "svg": "image"}.items():
        path.write_bytes(PAGES[name])
        assert said in (await refusal(prober, path))[1]


@pytest.mark.slow
async def test_nothing_a_file_names_is_opened(prober: Prober, tmp_path: Path) -> None:
    # Opening a pipe without a writer blocks; the probe would end in STAGE_TIMEOUT.
    canary = tmp_path / "canary.ts"
    os.mkfifo(canary)
    clip = tmp_path / "clip.ts"
    clip.write_bytes(media("clip.ts").read_bytes())
    path = tmp_path / "list.mp4"
    for name, text in PLAYLISTS.items():
        for target in (canary, clip, Path("/etc/passwd"), Path(clip.name)):
            path.write_text(text.format(path=target))
            reason, message = await refusal(prober, path)
            assert reason in {"NOT_MEDIA", "TRUNCATED"}, (name, message)
            assert "root:" not in message


def damaged(seed: int) -> bytes:
    dice = random.Random(seed)
    data = bytearray(media("faststart.mp4" if seed % 2 else "tiny.mp4").read_bytes())
    for _ in range(dice.randrange(1, 30)):
        # The first part is where the index stands.
        position = dice.randrange(len(data) if seed % 3 else 3000)
        data[position] = dice.choice((0, 0x7F, 0xFF, dice.randrange(256)))
    return bytes(data)


@pytest.mark.slow
async def test_any_damage_ends_in_an_answer(prober: Prober, tmp_path: Path) -> None:
    endings: list[str] = []

    async def check(seed: int) -> None:
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(damaged(seed))
        try:
            found = await prober.probe(path)
        except Failure as failure:
            endings.append(reason_name(failure.reason))
        else:
            assert found.duration.ToTimedelta() > timedelta(0)
            endings.append("")

    await each(25, check)
    assert len(endings) == 25
    assert set(endings) <= {"", "NOT_MEDIA", "TRUNCATED", "TOO_LONG"}


async def test_no_damage_makes_the_child_raise_or_crash(tmp_path: Path) -> None:
    for seed in range(200):
        (tmp_path / f"{seed}.mp4").write_bytes(damaged(seed))
    code = (
        "import pathlib, sys\n"
        "from ingot_server.probe.probe_main import FfmpegLog, Refused, open_file, probe\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: assert probe(open_file(str(path)), FfmpegLog(), whole=True)['duration'] > 0\n"
        "    except Refused as refused: assert refused.reason in ('NOT_MEDIA', 'TRUNCATED')\n"
        "    except MemoryError: pass  # As main() does: NOT_MEDIA.\n"
    )
    limits = Limits(memory_bytes=MEMORY_BYTES, cpu=timedelta(seconds=60))
    arguments = ("-I", "-c", code, str(tmp_path))
    async with await ChildProcess.start(sys.executable, *arguments, limits=limits) as child:
        assert (await child.wait(), child.stderr) == (0, "")


async def test_a_media_past_the_limit_is_too_long(prober: Prober) -> None:
    short = Prober(Settings(max_duration=timedelta(seconds=1)))
    with pytest.raises(Failure) as caught:
        await short.probe(media("plain.mp4"))
    assert caught.value.reason == reason_pb2.REASON_TOO_LONG
    assert caught.value.metadata == {"limit_seconds": "1"}


async def test_a_file_that_takes_too_long_is_given_up() -> None:
    hasty = Prober(Settings(probe_timeout=timedelta(milliseconds=5)))
    with pytest.raises(Failure) as caught:
        await hasty.probe(media("plain.mp4"))
    assert caught.value.reason == reason_pb2.REASON_STAGE_TIMEOUT
    assert caught.value.metadata == {"stage": "PROBING"}


async def test_a_file_that_is_gone_is_our_own_mistake(prober: Prober, tmp_path: Path) -> None:
    assert (await refusal(prober, tmp_path / "missing.mp4"))[0] == "INTERNAL"


async def probing(prober: Prober, tmp_path: Path) -> tuple[asyncio.Task[Media], int]:
    """Return a probe that waits for a file to be opened, and the process that does it."""
    path = tmp_path / "pipe.mp4"
    os.mkfifo(path)
    # So that there is a process to fork from, and only the child is new.
    await prober.probe(media("tiny.mp4"))
    others = set(descendants(os.getpid()))
    task = asyncio.create_task(prober.probe(path))
    await until(lambda: bool(set(descendants(os.getpid())) - others))
    (child,) = set(descendants(os.getpid())) - others
    return task, child


async def test_a_child_that_dies_reading_is_an_answer(
    own_process: None, prober: Prober, tmp_path: Path
) -> None:
    task, child = await probing(prober, tmp_path)
    os.kill(child, signal.SIGSEGV)
    with pytest.raises(Failure, match="SIGSEGV") as caught:
        await task
    assert caught.value.reason == reason_pb2.REASON_NOT_MEDIA
    assert (await prober.probe(media("plain.mp4"))).video


async def test_cancelling_ends_the_child(own_process: None, prober: Prober, tmp_path: Path) -> None:
    task, child = await probing(prober, tmp_path)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # It may have been seen before it said its number, and then it ends a little later.
    await until(lambda: child not in descendants(os.getpid()))


async def test_closing_leaves_no_child(own_process: None) -> None:
    servers = set(descendants(os.getpid()))
    prober = Prober(Settings())
    prober.start()
    for _ in range(3):
        await prober.probe(media("tiny.mp4"))
    await prober.close()
    assert set(descendants(os.getpid())) <= servers


def test_the_child_loads_nothing_of_the_server() -> None:
    code = (
        "import sys, ingot_server.probe.probe_main\n"
        "roots = {name.split('.')[0] for name in sys.modules}\n"
        "print(*roots & {'grpc', 'google', 'ingot', 'asyncio'})"
    )
    loaded = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=True)
    assert loaded.stdout.split() == []
    assert MEMORY_BYTES <= 1 << 30
