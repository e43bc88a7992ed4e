"""The destination of a download: one download per file, and only files are replaced."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from ingot import Client
from ingot.v1.media_pb2 import SideFile
from ingot.v1.media_service_pb2 import DownloadRequest
from tests.ingot_command import run_command
from tests.scripted_server import MEDIA_ID, URL, ScriptedServer, running_scripted_server

SIDE_URL = f"s3://ingot/media/{MEDIA_ID}/job-1.1.vtt"


@pytest.fixture
async def server() -> AsyncGenerator[ScriptedServer, None]:
    async with running_scripted_server() as server:
        yield server


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncGenerator[Client, None]:
    async with Client(server.target) as client:
        yield client


async def test_two_downloads_never_mix_in_one_file(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    content = server.store(3_000_000)
    path = tmp_path / "clip.mp4"
    server.cut_after_bytes = [1_500_000, *[0] * 1000]
    half = asyncio.Event()

    def progress(done: int, total: int) -> None:
        if done == 1_500_000:
            half.set()

    first = asyncio.create_task(client.download(URL, path, progress=progress))
    await half.wait()
    with pytest.raises(OSError, match="Another download writes to it") as refused:
        await client.download(URL, path)
    assert refused.value.errno == errno.EBUSY
    server.cut_after_bytes.clear()
    await first

    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    await client.download(URL, path)
    assert path.read_bytes() == content


async def test_directories_and_pipes_are_never_replaced(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    pipe, link, directory = tmp_path / "pipe", tmp_path / "link", tmp_path / "directory"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    directory.mkdir()

    for path, message in (
        (pipe, "Not a regular file"),
        (link, "Not a regular file"),
        (directory, "Is a directory"),
        (Path(), "Is a directory"),
    ):
        with pytest.raises(OSError, match=message):
            await client.download(URL, path)
    for command in (["download", URL], ["mp3", URL], ["convert", URL, "--format", "wav"]):
        code, _, stderr = await run_command(server.target, *command, "-o", str(pipe))
        assert (code, stderr.splitlines()[0]) == (2, f"ingot: {pipe}: Not a regular file")

    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link", "directory"}
    assert not server.requests


async def test_a_link_is_followed(server: ScriptedServer, client: Client, tmp_path: Path) -> None:
    content = server.store(1000)
    (tmp_path / "link").symlink_to("there.mp4")

    await client.download(URL, tmp_path / "link")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there.mp4").read_bytes() == content


async def test_a_directory_gets_a_file_named_after_the_title(
    server: ScriptedServer, tmp_path: Path
) -> None:
    content = server.store(1000)
    (tmp_path / "Clip.mp4").write_bytes(b"mine")
    server.media[0].blob.url = f"s3://ingot/media/{MEDIA_ID}/job-1.mp4"

    for _ in range(2):
        code, stdout, _ = await run_command(server.target, "download", URL, "-o", str(tmp_path))
        assert (code, stdout.split(":")[0]) == (0, f"{tmp_path}/Clip (2).mp4")

    assert {path.name for path in tmp_path.iterdir()} == {"Clip.mp4", "Clip (2).mp4"}
    assert (tmp_path / "Clip.mp4").read_bytes() == b"mine"
    assert (tmp_path / "Clip (2).mp4").read_bytes() == content
    absent = f"{tmp_path}/absent/"
    code, _, stderr = await run_command(server.target, "download", URL, "-o", absent)
    assert (code, stderr.splitlines()[0]) == (
        2,
        f"ingot: {tmp_path}/absent: No such file or directory",
    )


async def test_a_download_names_its_file_itself(server: ScriptedServer, tmp_path: Path) -> None:
    content = server.store(1000)
    server.media[0].blob.url = f"s3://ingot/media/{MEDIA_ID}/job-1.mp4"

    code, stdout, _ = await run_command(server.target, "download", URL, directory=tmp_path)

    assert (code, stdout.split(":")[0]) == (0, "Clip.mp4")
    assert (tmp_path / "Clip.mp4").read_bytes() == content


async def test_a_quiet_command_shows_the_result_alone(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.store(1000)

    for arguments in (["ingest", URL], ["download", URL]):
        code, stdout, stderr = await run_command(
            server.target, "-q", *arguments, directory=tmp_path
        )
        assert (code, stderr) == (0, "")
        assert stdout


async def test_a_side_file_is_downloaded_by_its_address(
    server: ScriptedServer, client: Client, tmp_path: Path
) -> None:
    side = server.media[0].side_files.add(
        kind=SideFile.KIND_SUBTITLES, url=SIDE_URL, content_type="text/vtt", size_bytes=6
    )
    server.content = b"WEBVTT"
    side.sha256 = hashlib.sha256(server.content).hexdigest()

    await client.download(SIDE_URL, tmp_path / "clip.vtt")

    assert (tmp_path / "clip.vtt").read_bytes() == b"WEBVTT"
    assert server.received(DownloadRequest)[0].url == SIDE_URL
    command = ("download", SIDE_URL.replace("s3:", "GS:"), "-o", str(tmp_path))
    code, stdout, _ = await run_command(server.target, *command)
    assert (code, stdout.strip()) == (0, f"{tmp_path}/Clip.vtt: 6 B, checksum verified")
    assert SIDE_URL in (await run_command(server.target, "media", URL))[1]
