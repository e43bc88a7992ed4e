"""The installed commands `ingot convert` and `ingot mp3`, with a real server and workers."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import imageio_ffmpeg
import pytest
from google.protobuf.json_format import Parse
from google.rpc.status_pb2 import Status

from ingot import Client, Job, JobState, Selection
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_service_pb2 import CancelJobRequest
from ingot.v1.media_service_pb2 import DownloadRequest
from ingot_server.config import Settings
from tests.ingot_command import run_command, run_on_terminal, start_command
from tests.media import media
from tests.origin import Origin, Page, running_origin
from tests.running_service import running_service
from tests.scripted_server import JOB_ID, MEDIA_ID, ScriptedServer, running_scripted_server
from tests.scripted_server import URL as SCRIPTED_URL

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]


@pytest.fixture
async def target(settings: Settings) -> AsyncIterator[str]:
    async with running_service(settings) as target:
        yield target


@pytest.fixture
async def client(target: str) -> AsyncIterator[Client]:
    async with Client(target) as client:
        yield client


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with running_scripted_server() as server:
        yield server


def serve(origin: Origin, name: str = "plain.mp4") -> str:
    return origin.serve(f"/{name}", Page(media(name).read_bytes()))


def assert_mp3(path: Path) -> None:
    """Check that a file begins like an MP3 and decodes to its end without a warning."""
    assert path.read_bytes()[:3] == b"ID3"
    decoded = subprocess.run(
        [
            *(imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "mp3", "-i", str(path)),
            *("-map", "0:a", "-f", "null", "-"),
        ],
        check=True,
        capture_output=True,
    )
    assert decoded.stderr == b""


async def test_a_url_is_saved_as_an_mp3_with_progress_on_a_pipe(
    target: str, origin: Origin, tmp_path: Path
) -> None:
    path = tmp_path / "song.mp3"

    code, stdout, stderr = await run_command(target, "mp3", serve(origin), "-o", path)

    assert code == 0, stderr
    assert_mp3(path)
    assert stdout.startswith(f"{path}: ")
    assert "checksum verified" in stdout
    # A worker may have started the job before its first state is read.
    assert stderr.split()[0] in {"queued", "running"}, stderr
    assert stderr.split()[-2:] == ["succeeded", "saving"]
    assert [found.name for found in tmp_path.glob("song*")] == ["song.mp3"]
    # Everything is stored now.
    path.unlink()
    code, _, stderr = await run_command(target, "mp3", serve(origin), "-o", path)
    assert (code, stderr.splitlines()) == (0, ["succeeded (already stored)", "saving"])
    assert len(origin.log) == 1


async def test_the_progress_bar_never_decreases(
    target: str, origin: Origin, tmp_path: Path
) -> None:
    content = media("plain.mp4").read_bytes()
    url = origin.serve("/plain.mp4", Page(content, rate=len(content) / 2))
    code, _, drawn = await run_on_terminal(target, "mp3", url, "-o", tmp_path / "song.mp3")

    assert code == 0, drawn
    shares = [int(share) for share in re.findall(r"(\d+)%", drawn)]
    assert shares == sorted(shares)
    assert (shares[0] < 100, shares[-1]) == (True, 100), drawn
    assert "downloading" in drawn
    assert "saving" in drawn
    # A second bar would be on the next line.
    assert not re.search(r"━\s*\d+%[^\n]*\n[^\n]*━\s*\d+%", drawn)


async def test_a_file_without_a_name_is_named_after_the_title(
    target: str, origin: Origin, tmp_path: Path
) -> None:
    url, here = serve(origin, "sound.m4a"), tmp_path / "here"
    here.mkdir()
    code, stdout, stderr = await run_command(target, "mp3", url, directory=here)
    assert code == 0, stderr
    (path,) = here.iterdir()
    assert path.suffix == ".mp3"
    assert stdout.startswith(f"{path.name}: ")
    assert_mp3(path)

    # The same file exists, so nothing is downloaded.
    kept = path.stat().st_mtime_ns
    code, _, stderr = await run_command(target, "mp3", url, "-o", here)
    assert (code, [path], path.stat().st_mtime_ns) == (0, list(here.iterdir()), kept), stderr

    path.write_bytes(b"precious")
    code, _, stderr = await run_command(target, "--json", "mp3", url, directory=here)
    assert (code, path.read_bytes()) == (0, b"precious")
    assert stderr == f"{path.stem} (2).mp3\n"
    assert_mp3(here / f"{path.stem} (2).mp3")


async def test_json_has_every_change_of_the_job(
    target: str, origin: Origin, tmp_path: Path
) -> None:
    path = tmp_path / "song.mp3"

    code, stdout, stderr = await run_command(target, "mp3", serve(origin), "-o", path, "--json")

    assert (code, stderr) == (0, "")
    jobs = [Parse(line, Job()) for line in stdout.splitlines()]
    assert [job.revision for job in jobs] == sorted({job.revision for job in jobs})
    assert jobs[-1].state == JobState.JOB_STATE_SUCCEEDED
    assert jobs[-1].media.blob.size_bytes == path.stat().st_size


async def test_stored_media_is_converted_and_downloaded(
    target: str, client: Client, origin: Origin, tmp_path: Path
) -> None:
    source = await (await client.ingest_video(serve(origin)))

    code, stdout, stderr = await run_command(
        *(target, "convert", source.id, "--format", "wav", "--start", "0:00.5", "--end", "1.5"),
        *("--sample-rate", "16000", "--channels", "1", "--bits-per-sample", "24"),
        *("--label", "a=b", "-o", tmp_path / "part.wav"),
    )

    assert code == 0, stderr
    assert (tmp_path / "part.wav").stat().st_size == pytest.approx(48000, abs=1000)
    assert "checksum verified" in stdout
    (made,) = [each async for each in client.list_media() if each.derived_from_media_id]
    assert made.labels == {"a": "b"}
    assert made.duration.ToTimedelta().total_seconds() == pytest.approx(1, abs=0.05)

    # Without -o the command shows the media, like an ingest.
    code, stdout, _ = await run_command(target, "convert", source.url, "--format", "png")
    assert code == 0
    assert re.search(rf"^converted from +{source.id}$", stdout, re.MULTILINE)
    assert "image/png" in stdout
    code, stdout, _ = await run_command(
        target, "convert", source.id, "--format", "mp3", "--no-wait"
    )
    assert (code, "job" in stdout) == (0, True)
    code, stdout, _ = await run_command(target, "mp3", source.id, "-o", tmp_path / "song.mp3")
    assert code == 0
    assert_mp3(tmp_path / "song.mp3")


async def test_an_ingest_shows_the_results_of_its_recipes(target: str, origin: Origin) -> None:
    code, stdout, stderr = await run_command(
        *(target, "ingest", serve(origin)),
        *("--recipe", "mp3,bitrate=64", "--recipe", "jpeg,start=1,max-height=60"),
    )

    assert code == 0, stderr
    types = re.findall(r"^type +(\S+)$", stdout, re.MULTILINE)
    assert types == ["video/mp4", "audio/mpeg", "image/jpeg"]
    assert re.search(r"^recipe +mp3, bitrate kbps 64$", stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "wav", "--bitrate", "192"], "--bitrate does not apply to wav."),
        (["--format", "mp3", "--bitrate", "193"], "--bitrate must be one of 8, 16"),
        (["--format", "mp3", "--start", "5", "--end", "4"], "--end must be after the start."),
        (
            ["--format", "mp3", "--start", "1:00"],
            "--start is past the end of the media item at 2 s.",
        ),
        (["--format", "png"], "--format needs video, and the media item has none."),
        (["--format", "mp4", "--max-height", "1"], "--max-height must be greater than or equal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_a_wrong_option_is_refused_by_its_name(
    target: str, origin: Origin, arguments: list[str], message: str
) -> None:
    url = serve(origin, "sound.wav")

    # If the error depends on the media, the first attempt fails in the job.
    for _ in range(2):
        code, stdout, stderr = await run_command(target, "convert", url, *arguments)
        assert (code, stdout) == (2, ""), stderr
        (failure, advice) = stderr.splitlines()[-2:]
        assert failure.startswith(f"ingot: {message}")
        assert failure.endswith("[INVALID_REQUEST]")
        assert advice.startswith("Correct --")


async def test_a_wrong_recipe_of_an_ingest_or_an_mp3_is_refused(
    target: str, origin: Origin, tmp_path: Path
) -> None:
    code, _, stderr = await run_command(
        *(target, "ingest", serve(origin), "--recipe", "mp3", "--recipe", "wav,bitrate=64")
    )
    assert code == 2
    assert "bitrate of --recipe wav,bitrate=64 does not apply to wav." in stderr

    code, stdout, stderr = await run_command(
        *(target, "--json", "convert", serve(origin), "--format", "wav", "--quality", "1")
    )
    assert (code, stdout) == (2, "")
    assert "recipe.wav.quality means" not in Parse(stderr, Status()).message

    silent = serve(origin, "silent.mp4")
    code, _, stderr = await run_command(target, "mp3", silent, "-o", tmp_path / "song.mp3")
    assert (code, list(tmp_path.glob("song*"))) == (2, [])
    assert "ingot: MP3 needs audio, and the media item has none. [INVALID_REQUEST]" in stderr


async def test_no_job_starts_if_the_output_cannot_be_written(
    server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "no" / "song.mp3"

    for arguments in (["mp3"], ["convert", "--format", "mp3"]):
        code, _, stderr = await run_command(server.target, *arguments, SCRIPTED_URL, "-o", path)
        assert code == 2
        assert stderr.startswith(f"ingot: {path.parent}: No such file or directory")
    assert not server.requests


async def test_only_audio_only_sends_a_selection(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"

    assert (await run_command(server.target, "mp3", SCRIPTED_URL, "-o", path))[0] == 0
    assert (await run_command(server.target, "mp3", SCRIPTED_URL, "-o", path, "--audio-only"))[
        0
    ] == 0

    requests = server.received(ConvertRequest)
    assert [request.HasField("selection") for request in requests] == [False, True]
    assert requests[1].selection.mode == Selection.MODE_AUDIO_ONLY
    assert {request.recipe.WhichOneof("format") for request in requests} == {"mp3"}


async def test_ctrl_c_says_how_to_watch_the_job(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    server.last_revision = 3
    process = await start_command(server.target, "convert", MEDIA_ID, "--format", "mp3", "-o", path)
    assert process.stderr is not None
    await process.stderr.readuntil(b"downloading\n")
    process.send_signal(signal.SIGINT)
    _, stderr = await process.communicate()

    assert process.returncode == 130
    assert f"ingot watch {JOB_ID}" in stderr.decode()
    assert server.received(ConvertRequest)[0].media_id == MEDIA_ID
    assert not server.received(CancelJobRequest)
    assert not server.received(DownloadRequest)
    assert not list(tmp_path.glob("song*"))
