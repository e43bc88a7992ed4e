"""Every recipe on every input of a table: the right output, or the right reason.

The results are checked twice: by validation itself, and here by PyAV, another build of FFmpeg's
libraries than the ffmpeg that wrote it, which decodes it to the end.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import signal
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import av
import pytest
from av.audio.frame import AudioFrame

from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipe_formats import RECIPE_FORMATS
from ingot_server.library.recipes import canonical_recipe
from ingot_server.probe.prober import Prober
from ingot_server.setting_values import ByteSize
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.ffmpeg_run import TranscodeProgress
from ingot_server.transcode.plan import plan_conversion
from ingot_server.transcode.tags import Tags, tags_for
from ingot_server.transcode.transcoder import Transcoded, Transcoder
from ingot_server.transcode.verify import verify_media
from tests.conversions import ffmpegs
from tests.media import media
from tests.recipes import TRANSCODED, make_recipe


def recipe(name: str, **fields: float) -> Recipe:
    """The canonical recipe; `start` and `end` in seconds."""
    return canonical_recipe(make_recipe(name, **fields))


FORMATS = [recipe(name) for name in TRANSCODED]
MORE = [
    recipe("mp3", quality=4),
    recipe("mp3", bitrate_kbps=320, start=0.5, end=1.25),
    recipe("mp3", sample_rate_hz=22050, channels=1, bitrate_kbps=64),
    recipe("m4a", normalize_loudness=True),
    recipe("opus", start=0.9, bitrate_kbps=510),
    recipe("wav", sample_rate_hz=16000, channels=1),
    recipe("wav", bits_per_sample=24, channels=2),
    recipe("flac", bits_per_sample=24, end=0.7),
    recipe("mp4", max_height=64),
    recipe("mp4", start=0.5, end=1.5),
    recipe("mp4", quality=30, normalize_loudness=True),
    recipe("mp4", audio_bitrate_kbps=32, channels=1, sample_rate_hz=32000),
    recipe("png", start=1.97),
    recipe("jpeg", start=1, max_height=50),
    recipe("waveform", start=0.5, end=1, points_per_second=100),
]
INPUTS = (
    *("plain.mp4", "fragmented.mp4", "silent.mp4", "uneven.mp4", "turned_sound.mp4", "hdr.mp4"),
    *("ten_bits.mp4", "hlg.mkv", "interlaced.ts", "interlaced.avi", "interlaced.mp4"),
    *("anamorphic.mp4", "tall_pixels.mkv"),
    *("pcm.mov", "slides.mkv", "several.mkv", "irregular.mkv", "late.mkv", "short_sound.mp4"),
    *("vp9.webm", "theora.ogv", "clip.avi", "clip.ts", "clip.mpg", "clip.wmv", "cover.mp3"),
    *("unheaded.mp3", "slow.mp3", "half.m4a", "raw.aac", "six.mka", "six.flac", "unsigned.wav"),
    *("eleven.wav", "wide.wav", "float.wav", "quiet.wav", "vorbis.ogg", "speech.opus", "tiny.mp4"),
)
THOROUGH = ("plain.mp4", "late.mkv", "clip.ts", "uneven.mp4", "half.m4a", "unheaded.mp3")
# Encoders' frames round a length up, and pictures last.
SLACK_SECONDS = {"mp4": 0.25, "m4a": 0.1, "mp3": 0.05, "opus": 0.05, "flac": 0.05, "wav": 0.05}


@dataclass
class TranscodeHarness:
    """A transcoder, and what it works with."""

    ffmpeg: Ffmpeg
    prober: Prober
    directory: Path
    made: int = 0

    async def make(self, name: str, wanted: Recipe, **options: object) -> Transcoded:
        path = media(name)
        return await self.make_of(await self.prober.probe(path), path, wanted, **options)

    async def make_of(
        self, found: Media, path: Path, wanted: Recipe, **options: object
    ) -> Transcoded:
        plan = plan_conversion(wanted, found)
        self.made += 1
        directory = self.directory / str(self.made)
        directory.mkdir()
        transcoder = Transcoder(self.ffmpeg, self.prober)
        return await transcoder.transcode(
            plan,
            path,
            directory,
            tags_for(plan),
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[TranscodeHarness]:
    settings = Settings()
    prober = Prober(settings)
    prober.start()
    yield TranscodeHarness(Ffmpeg(settings), prober, tmp_path)
    await prober.close()


def decoded(path: Path) -> tuple[dict[str, int], float]:
    """Frames of each kind, and seconds of audio, else of video; raises what decoding raises."""
    frames, seconds = {"audio": 0, "video": 0}, 0.0
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate or 0) if container.streams.video else 0
        for frame in container.decode(*container.streams.audio, *container.streams.video):
            if isinstance(frame, AudioFrame):
                frames["audio"] += 1
                seconds += frame.samples / frame.sample_rate
            else:
                frames["video"] += 1
    return frames, seconds or (frames["video"] / rate if rate else 0.0)


def length(wanted: Recipe, found: Media) -> float:
    whole = found.duration.ToTimedelta().total_seconds()
    end = wanted.end_offset.ToTimedelta().total_seconds() or whole
    return min(end, whole) - wanted.start_offset.ToTimedelta().total_seconds()


def judge(wanted: Recipe, found: Media, made: Transcoded) -> None:
    name = wanted.WhichOneof("format") or ""
    if name == "waveform":
        drawn = json.loads(made.path.read_bytes())
        assert drawn["length"] * 2 == len(drawn["data"])
        assert all(-128 <= value <= 127 for value in drawn["data"])
        return
    if name == "storyboard":
        assert made.path.read_text().count("-->") == math.ceil(round(length(wanted, found), 3))
        assert [decoded(sheet)[0]["video"] for sheet in made.sheets] == [1]
        return
    frames, seconds = decoded(made.path)
    if name == "image":
        assert frames == {"audio": 0, "video": 1}
        return
    assert bool(frames["audio"]) == bool(found.audio)
    assert bool(frames["video"]) == (name == "mp4")
    if name == "mp4" and not found.audio:
        return
    # A sound by itself may end before what its container announces.
    slack = SLACK_SECONDS[name] + (0 if found.video else 0.1)
    if name != "mp4":
        assert abs(seconds - length(wanted, found)) <= slack, (seconds, length(wanted, found))


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.slow
async def test_every_recipe_on_every_input(harness: TranscodeHarness, name: str) -> None:
    path = media(name)
    found = await harness.prober.probe(path)

    async def one(wanted: Recipe) -> None:
        shown = f"{name}: {wanted}".replace("\n", " ")
        visual = wanted.WhichOneof("format") in {"mp4", "image", "storyboard"}
        try:
            made = await harness.make_of(found, path, wanted)
        except Failure as failure:
            past = wanted.start_offset.ToTimedelta() >= found.duration.ToTimedelta()
            right = past or not (found.video if visual else found.audio)
            if reason_name(failure.reason) == "INVALID_REQUEST" and right:
                return
            raise AssertionError(f"{shown}: {failure!r}") from failure
        try:
            judge(wanted, found, made)
        except (AssertionError, av.FFmpegError) as error:
            raise AssertionError(f"{shown}: {error}") from error

    limit = asyncio.Semaphore(4)

    async def in_turn(wanted: Recipe) -> None:
        async with limit:
            await one(wanted)

    async with asyncio.TaskGroup() as group:
        for wanted in (*FORMATS, *(MORE if name in THOROUGH else ())):
            group.create_task(in_turn(wanted))


@pytest.mark.parametrize("kind", ["cut", "zeros", "text", "empty", "cover"])
async def test_a_file_without_media_has_no_conversion(
    harness: TranscodeHarness, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "clip.mp4"
    data = media("plain.mp4").read_bytes()
    contents = {
        "cut": data[: len(data) * 6 // 10],
        "zeros": bytes(100_000),
        "text": b"no media",
        "empty": b"",
        "cover": media("picture.png").read_bytes(),
    }
    path.write_bytes(contents[kind])
    found = await harness.prober.probe(media("plain.mp4"))
    for wanted in FORMATS:
        with pytest.raises(Failure) as caught:
            await harness.make_of(found, path, wanted)
        # Validation of an ingest refuses these; a conversion of one fails with a clear reason.
        assert reason_name(caught.value.reason) == "CONVERSION_FAILED", wanted


async def test_sound_that_is_lost_in_the_middle_keeps_its_time(
    harness: TranscodeHarness, tmp_path: Path
) -> None:
    data = bytearray(media("clip.ts").read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    path = tmp_path / "torn.ts"
    path.write_bytes(data)
    found = await harness.prober.probe(media("clip.ts"))
    made = await harness.make_of(found, path, recipe("wav"))
    assert decoded(made.path)[1] == pytest.approx(length(recipe("wav"), found), abs=0.05)


async def test_nothing_a_file_names_is_opened(harness: TranscodeHarness, tmp_path: Path) -> None:
    canary = tmp_path / "canary.ts"
    os.mkfifo(canary)  # Who opens it waits, and the test would run out of time.
    found = await harness.prober.probe(media("plain.mp4"))
    path = tmp_path / "list.mp4"
    for text in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
    ):
        for target in (canary, media("clip.ts"), "http://127.0.0.1:9/clip.ts"):
            path.write_text(text.format(path=target))
            with pytest.raises(Failure) as caught:
                await harness.make_of(found, path, recipe("mp3"))
            assert reason_name(caught.value.reason) == "CONVERSION_FAILED"


@pytest.mark.parametrize(
    "text",
    [
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        '<svg xmlns="http://www.w3.org/2000/svg"><image href="{path}"/></svg>',
        '<!DOCTYPE MPD [<!ENTITY e SYSTEM "{path}">]><MPD><BaseURL>&e;</BaseURL></MPD>',
        "[Script Info]\n[Fonts]\nfontname: {path}\n[Events]\nDialogue: 0,0:00:00.00,0:00:09.00,x\n",
    ],
    ids=["sdp", "svg", "mpd", "ass"],
)
@pytest.mark.parametrize("name", ["text.mp4", "text.svg"])
async def test_text_is_not_media_whatever_it_describes(
    harness: TranscodeHarness, tmp_path: Path, text: str, name: str
) -> None:
    canary = tmp_path / "canary.ts"
    os.mkfifo(canary)  # Who opens it waits, and the test would run out of time.
    path = tmp_path / name
    path.write_text(text.format(path=canary))
    with pytest.raises(Failure) as caught:
        await harness.prober.probe(path)
    assert reason_name(caught.value.reason) == "NOT_MEDIA"
    described = await harness.prober.probe(media("plain.mp4"))
    with pytest.raises(Failure) as caught:
        await harness.make_of(described, path, recipe("mp3"))
    assert reason_name(caught.value.reason) == "CONVERSION_FAILED"


async def test_a_result_does_not_become_much_longer_than_planned(
    harness: TranscodeHarness,
) -> None:
    found = await harness.prober.probe(media("film.mp4"))
    found.duration.FromSeconds(1)
    found.ClearField("chapters")
    sound = Media()
    sound.CopyFrom(found)
    sound.ClearField("video")
    for parent, wanted in (
        (sound, recipe("wav")),
        (found, recipe("mp4")),
        (found, recipe("mp4", quality=30)),
    ):
        with pytest.raises(Failure, match=r"lasts 11\.\d+ s, not 1\.000 s"):
            await harness.make_of(parent, media("film.mp4"), wanted)


async def test_streams_that_are_right_already_are_copied(harness: TranscodeHarness) -> None:
    def packets(path: Path, kind: str) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(**{kind: 0}) if p.size]

    for name in ("plain.mp4", "fragmented.mp4", "late.mkv"):
        made = await harness.make(name, recipe("mp4"))
        for kind in ("video", "audio"):
            assert packets(made.path, kind) == packets(media(name), kind), (name, kind)
        assert made.media.web_playable
    made = await harness.make("pcm.mov", recipe("mp4"))
    assert packets(made.path, "video") == packets(media("pcm.mov"), "video")
    made = await harness.make("plain.mp4", recipe("mp4", quality=23))
    assert packets(made.path, "video") != packets(media("plain.mp4"), "video")


async def test_lossless_is_lossless(harness: TranscodeHarness) -> None:
    def samples(path: Path) -> bytes:
        with av.open(str(path)) as container:
            resampler = av.AudioResampler("s32", "mono")
            return b"".join(
                bytes(part.planes[0])[: part.samples * 4]
                for frame in container.decode(audio=0)
                for part in resampler.resample(frame)
            )

    for name, bits in (("sound.wav", 16), ("sound.flac", 16)):
        for form in ("flac", "wav"):
            made = await harness.make(name, recipe(form, bits_per_sample=bits))
            assert samples(made.path) == samples(media(name)), (name, form)


async def test_pictures_keep_their_own_times(harness: TranscodeHarness) -> None:
    def times(path: Path) -> list[float]:
        with av.open(str(path)) as container:
            return [round(frame.time or 0, 3) for frame in container.decode(video=0)]

    made = await harness.make("irregular.mkv", recipe("mp4"))
    assert times(made.path) == times(media("irregular.mkv"))


async def test_what_is_turned_is_shown_upright(harness: TranscodeHarness) -> None:
    copied = await harness.make("turned_sound.mp4", recipe("mp4"))
    assert [(v.width, v.height, v.rotation) for v in copied.media.video] == [(160, 120, 90)]
    encoded = await harness.make("turned_sound.mp4", recipe("mp4", max_height=80))
    assert [(v.width, v.height, v.rotation) for v in encoded.media.video] == [(60, 80, 0)]
    picture = await harness.make("turned_sound.mp4", recipe("png"))
    assert [(v.width, v.height) for v in picture.media.video] == [(120, 160)]


async def test_the_stream_to_hear_is_neither_a_commentary_nor_another_language(
    harness: TranscodeHarness, tmp_path: Path
) -> None:
    path = tmp_path / "tracks.mkv"
    channels = {"commentary": 1, "second": 2, "first": 6}
    sources = [part for name in channels for part in ("-i", str(media("sound.wav")))]
    maps = [part for number in range(3) for part in ("-map", str(number))]
    counts = [
        part
        for number, count in enumerate(channels.values())
        for part in (f"-ac:a:{number}", str(count))
    ]
    marks = ("-disposition:a:0", "comment+default", "-disposition:a:1", "0")
    await harness.ffmpeg.run_command(
        [*sources, *maps, *counts, *marks, "-disposition:a:2", "default", "-c:a", "ac3", str(path)],
        source=media("sound.wav"),
        output=path,
    )
    found = await harness.prober.probe(path)
    made = await harness.make_of(found, path, recipe("wav"))
    assert made.media.audio[0].channels == 6


async def test_the_gap_before_late_audio_is_kept(harness: TranscodeHarness) -> None:
    made = await harness.make("late.mkv", recipe("wav"))
    with av.open(str(made.path)) as container:
        data = b"".join(bytes(frame.planes[0]) for frame in container.decode(audio=0))
    first = next(number for number, value in enumerate(data) if value) / 2 / 44100
    assert first == pytest.approx(0.7, abs=0.05)


async def test_bit_rate_and_length_of_an_mp3_are_exact(harness: TranscodeHarness) -> None:
    for kbps, rate in ((192, 44100), (320, 44100), (160, 24000), (64, 8000)):
        made = await harness.make(
            "plain.mp4",
            recipe("mp3", bitrate_kbps=kbps, **({} if rate == 44100 else {"sample_rate_hz": rate})),
        )
        audio = made.media.audio[0]
        assert (audio.codec, audio.bitrate_bps, audio.sample_rate_hz) == ("mp3", kbps * 1000, rate)
        assert decoded(made.path)[1] == pytest.approx(2.0, abs=0.05)
        head = made.path.read_bytes()[:3000]
        assert b"Info" in head  # As LAME marks a constant bit rate; `Xing` is a variable one.


async def test_the_rate_of_an_mp3_follows_its_bit_rate(harness: TranscodeHarness) -> None:
    made = await harness.make("unsigned.wav", recipe("mp3"))
    assert (made.media.audio[0].sample_rate_hz, made.media.audio[0].bitrate_bps) == (32000, 192_000)
    made = await harness.make("wide.wav", recipe("mp3", quality=2))
    assert made.media.audio[0].sample_rate_hz == 48000


async def test_the_audio_of_an_mp4_has_the_bit_rate_that_was_asked_for(
    harness: TranscodeHarness, tmp_path: Path
) -> None:
    path = tmp_path / "noise.mp4"
    noise = "anoisesrc=duration=5:color=pink:seed=1:amplitude=0.3:sample_rate=44100"
    picture = "color=size=64x48:rate=5:duration=5"
    await harness.ffmpeg.run_command(
        [
            *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", noise, "-pix_fmt", "yuv420p"),
            *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac", "-b:a", "96k", str(path)),
        ],
        output=path,
    )
    found = await harness.prober.probe(path)
    for kbps in (32, 64, 128):
        made = await harness.make_of(found, path, recipe("mp4", audio_bitrate_kbps=kbps))
        assert made.media.audio[0].bitrate_bps == pytest.approx(kbps * 1000, rel=0.1)
        assert made.media.video[0].codec == "h264"
    less = plan_conversion(recipe("mp4", audio_bitrate_kbps=16), found)
    with pytest.raises(Failure, match=r"its audio has .* bit/s, not about 16000"):
        verify_media(less, made.media, made.path, 0.0)


async def test_loudness_is_brought_to_the_target(harness: TranscodeHarness, tmp_path: Path) -> None:
    path = tmp_path / "speech.wav"
    # Louder and quieter noise, 12 s: the range has to be measured over several blocks.
    noise = "anoisesrc=duration=12:color=pink:seed=1:amplitude=0.05"
    await harness.ffmpeg.run_command(
        ["-f", "lavfi", "-i", noise, "-af", "volume=0.5:enable='lt(t,6)'", str(path)],
        output=path,
    )
    found = await harness.prober.probe(path)
    for form in ("mp3",):
        made = await harness.make_of(found, path, recipe(form, normalize_loudness=True))
        ran = await harness.ffmpeg.run_command(
            ["-i", str(made.path), "-af", "ebur128=peak=true", "-f", "null", "-"],
            source=made.path,
            log_level="info",
        )
        summary = ran.log[ran.log.rindex("Summary:") :]
        integrated = float(summary.split("I:")[1].split()[0])
        peak = float(summary.split("Peak:")[1].split()[0])
        assert integrated == pytest.approx(-16, abs=0.6)
        assert peak <= -1.0


async def test_silence_stays_silence(harness: TranscodeHarness) -> None:
    made = await harness.make("quiet.wav", recipe("mp3", normalize_loudness=True))
    assert decoded(made.path)[1] == pytest.approx(2.0, abs=0.05)


async def test_progress_grows_over_both_passes(harness: TranscodeHarness) -> None:
    reports: list[TranscodeProgress] = []
    await harness.make(
        "plain.mp4", recipe("mp3", normalize_loudness=True), on_progress=reports.append
    )
    assert reports == sorted(reports, key=lambda report: report.done_seconds)
    assert {report.total_seconds for report in reports} == {4.0}
    assert reports[-1].done_seconds == pytest.approx(4.0, abs=0.06)


async def test_a_reader_makes_the_same_as_a_file(harness: TranscodeHarness, tmp_path: Path) -> None:
    found = await harness.prober.probe(media("faststart.mp4"))
    from_file = await harness.make_of(found, media("faststart.mp4"), recipe("mp3"))
    directory = tmp_path / "piped"
    directory.mkdir()
    reader = io.BytesIO(media("faststart.mp4").read_bytes())
    plan = plan_conversion(recipe("mp3"), found)
    from_reader = await Transcoder(harness.ffmpeg, harness.prober).transcode(
        plan, reader, directory, tags_for(plan)
    )
    assert from_reader.path.read_bytes() == from_file.path.read_bytes()


async def test_a_wrong_result_is_refused(harness: TranscodeHarness) -> None:
    found = await harness.prober.probe(media("plain.mp4"))
    found.duration.FromTimedelta(timedelta(seconds=60))
    del found.video[:]
    with pytest.raises(Failure) as caught:
        await harness.make_of(found, media("plain.mp4"), recipe("mp3"))
    assert reason_name(caught.value.reason) == "CONVERSION_FAILED"
    assert "it lasts 2.000 s, not 60.000 s" in caught.value.message


async def test_killed_midway_it_crashed_and_leaves_no_process(harness: TranscodeHarness) -> None:
    long = asyncio.Event()

    found = await harness.prober.probe(media("raw.aac"))
    found.duration.FromSeconds(36_000)
    directory = harness.directory / "long"
    directory.mkdir()

    class Endless(io.RawIOBase):
        data = media("raw.aac").read_bytes()

        def read(self, size: int = -1, /) -> bytes:
            return self.data

    making = asyncio.create_task(
        Transcoder(harness.ffmpeg, harness.prober).transcode(
            plan_conversion(recipe("mp3"), found),
            Endless(),  # type: ignore[arg-type]
            directory,
            Tags(),
            on_progress=lambda _: long.set(),
        )
    )
    await long.wait()
    (pid,) = ffmpegs(os.getpid())
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(Failure) as caught:
        await making
    assert reason_name(caught.value.reason) == "CONVERTER_CRASHED"


@pytest.mark.parametrize("name", [name for name in TRANSCODED if name != "waveform"])
async def test_a_full_disk_is_reported(harness: TranscodeHarness, name: str) -> None:
    found = await harness.prober.probe(media("vp9.webm"))
    directory = harness.directory / "full"
    directory.mkdir()
    extension = RECIPE_FORMATS[name].extension
    written = "sheet-1.jpg" if name == "storyboard" else f"result{extension}"
    # A link to that device would lead out of the directory, which ffmpeg cannot leave.
    try:
        os.mknod(directory / written, stat.S_IFCHR | 0o666, Path("/dev/full").stat().st_rdev)
    except PermissionError:
        pytest.skip("only root can make a device that is full")
    with pytest.raises(Failure) as caught:
        await Transcoder(harness.ffmpeg, harness.prober).transcode(
            plan_conversion(recipe(name), found), media("vp9.webm"), directory, Tags()
        )
    assert reason_name(caught.value.reason) == "SCRATCH_FULL", caught.value


async def test_a_result_past_the_largest_media_is_refused(harness: TranscodeHarness) -> None:
    harness.ffmpeg = Ffmpeg(Settings(max_media_size=ByteSize(50_000)))
    with pytest.raises(Failure) as caught:
        await harness.make("sound.flac", recipe("wav"))
    assert reason_name(caught.value.reason) == "TOO_LARGE"


@pytest.mark.slow
async def test_half_an_hour_of_mp3_is_exact_to_its_end(
    harness: TranscodeHarness, tmp_path: Path
) -> None:
    minute, path = tmp_path / "minute.mp4", tmp_path / "long.mp4"
    picture = "color=size=64x48:rate=1:duration=60"
    await harness.ffmpeg.run_command(
        [
            *("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=sample_rate=16000"),
            *("-t", "60", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"),
            *("-c:a", "aac", "-b:a", "32k", str(minute)),
        ],
        output=minute,
    )
    looped = ["-stream_loop", "29", "-i", str(minute), "-c", "copy", str(path)]
    await harness.ffmpeg.run_command(looped, source=minute, output=path)
    found = await harness.prober.probe(path)
    whole = found.duration.ToTimedelta().total_seconds()
    assert whole > 1790
    made = await harness.make_of(found, path, recipe("mp3", bitrate_kbps=64))
    assert made.media.duration.ToTimedelta().total_seconds() == pytest.approx(whole, abs=0.05)
    assert made.media.audio[0].bitrate_bps == 64_000
    assert decoded(made.path)[1] == pytest.approx(whole, abs=0.05)
