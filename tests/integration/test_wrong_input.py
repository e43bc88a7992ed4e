"""Wrong input on the command line exits with 2 and says what to correct, with a real API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from ingot.cli import main
from ingot_server.app import running
from ingot_server.config import Settings

pytestmark = pytest.mark.any_stores

MEDIA_ID, JOB_ID = "a" * 52, "0" * 26
URL = "http://media.example/clip.mp4"

Run = Callable[..., Awaitable[tuple[int, str]]]

JOB_FORM = "is not the id of a job, which has 26 letters and digits"
MEDIA_FORM = "neither a URL nor the id of a media item, which has 52 letters and digits"

WRONG: list[tuple[list[str], str]] = [
    # ids of jobs
    *(([f"{command}", "abc"], JOB_FORM) for command in ("job", "watch", "cancel", "retry")),
    (["job", "x" * 200], JOB_FORM),
    (["job", ""], JOB_FORM),
    (["job", MEDIA_ID], f"`ingot media {MEDIA_ID}`"),
    (["cancel", URL], "is a URL, and not the id of a job"),
    # names of media items
    *(
        ([command, "abc"], MEDIA_FORM)
        for command in ("media", "url", "rm", "pin", "download", "mp3")
    ),
    (["convert", "abc", "--format", "mp3"], MEDIA_FORM),
    (["media", ""], "URL"),
    (["media", JOB_ID], f"`ingot job {JOB_ID}`"),
    (["rm", JOB_ID, URL], f"{JOB_ID} is the id of a job"),
    (["list", "--made-of", "abc"], "--made-of: 'abc' is not the id of a media item"),
    # URLs
    (["ingest", "abc"], "Begin it with http:// or https://"),
    (["ingest", MEDIA_ID], f"`ingot media {MEDIA_ID}`"),
    (["ingest", JOB_ID], f"`ingot job {JOB_ID}`"),
    (["ingest", "ftp://media.example/x"], "ftp"),
    (["ingest", "http://"], "no host"),
    # files
    (["upload", "missing.mp4"], "missing.mp4: No such file or directory"),
    (["upload", "."], "Is a directory"),
    (["upload", "missing.mp4", "absent.mp4"], "absent.mp4: No such file"),
    (["download", MEDIA_ID, "-o", "/no/such/clip.mp4"], "/no/such: No such file or directory"),
    (["mp3", URL, "-o", "/dev/null"], "/dev/null: Not a regular file"),
    (["download", MEDIA_ID, "-o", ""], "'' is not a file or directory"),
    (["jobs", "--server", "https://localhost", "--ca", "missing.pem"], "missing.pem: No such file"),
    # numbers, times, labels
    (["ingest", URL, "--max-height", "99999"], "--max-height must be"),
    (["ingest", URL, "--max-height", "tall"], "--max-height: 'tall' is not an integer"),
    (["ingest", URL, "--max-entries", "-1"], "--max-entries must be"),
    (["ingest", URL, "--max-age", "soon"], "--max-age: 'soon' is not a duration"),
    (["ingest", URL, "--max-age", "99999999d"], "--max-age must be"),
    (["ingest", URL, "--record", "9d"], "--record must be"),
    (["ingest", URL, "--subtitles", "!"], "--subtitles must be a language"),
    (["ingest", URL, "--label", "A b=c"], "--label (the key) must"),
    (["ingest", URL, "--label", "news"], "is not KEY=VALUE"),
    (["url", MEDIA_ID, "--lifetime", "9d"], "--lifetime must be"),
    (["list", "--limit", "-1"], "--limit: -1 is less than 0"),
    (["list", "x" * 300], "WORD must be at most"),
    (["jobs", "--label", "A b=c"], "--label (the key) must"),
    # recipes
    (["ingest", URL, "--recipe", "gif"], "invalid choice: 'gif'"),
    (["ingest", URL, "--recipe", "mp3,bitrate=1"], "bitrate of --recipe mp3,bitrate=1 must be"),
    (["ingest", URL, "--recipe", "mp3,colour=red"], "--colour=red"),
    (["convert", MEDIA_ID, "--format", "wav", "--bitrate", "3"], "--bitrate does not apply to wav"),
    (["convert", MEDIA_ID, "--format", "mp3", "--start", "late"], "is not a position"),
    (["mp3", MEDIA_ID, "--channels", "9"], "invalid choice: 9"),
    # choices, addresses, headers
    (["fetch"], "invalid choice: 'fetch'"),
    (["jobs", "--state", "gone"], "invalid choice: 'gone'"),
    (["list", "--kind", "song"], "invalid choice: 'song'"),
    (["ingest", URL, "--priority", "urgent"], "invalid choice: 'urgent'"),
    (["jobs", "--server", "host:port"], "--server: 'host:port' is not the address"),
    (["jobs", "--server", "example.com", "--token", "x"], "--allow-plaintext-token"),
    (["jobs", "--header", "team"], "is not NAME:VALUE"),
    (["jobs", "--header", "a b:c"], "'a b' is not the name of a header"),
]


@pytest.fixture
async def run(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Run]:
    """Run a command line in this process; return its exit code and what it wrote to stderr."""
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null")
    async with running(settings.replace(http_address="")) as addresses:
        monkeypatch.setenv("INGOT_SERVER", addresses.grpc)

        async def run(*arguments: str) -> tuple[int, str]:
            try:
                code = await asyncio.to_thread(main, arguments)
            except SystemExit as exit_:
                code = int(str(exit_.code))
            return code, capsys.readouterr().err

        yield run


async def test_wrong_input_exits_with_2_and_says_what_to_correct(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, text in WRONG:
        code, stderr = await run(*arguments)

        assert (code, text in stderr) == (2, True), f"{arguments}: {code}\n{stderr}"
        assert "Traceback" not in stderr


async def test_what_is_not_there_exits_with_1(run: Run) -> None:
    for command in "job", "watch", "cancel", "retry":
        code, stderr = await run(command, JOB_ID)
        assert (code, "JOB_NOT_FOUND" in stderr) == (1, True)
    for name in MEDIA_ID, URL:
        code, stderr = await run("media", name)
        assert (code, "MEDIA_NOT_FOUND" in stderr) == (1, True)


async def test_of_several_the_wrong_one_is_named_and_the_others_are_stored(run: Run) -> None:
    code, stderr = await run("ingest", URL, "abc", "--no-wait")

    assert code == 2
    assert stderr.startswith("ingot: abc: 'abc' is not a URL.")
