"""Every command on the pages for readers works, and prints what the page shows.

Those that say why they are not run are checked by tests/unit/test_documented_commands.py alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from ingot import Client
from tests.documented_commands import Session
from tests.documented_pages import PAGES, ROOT, Command, read_blocks
from tests.installation import Installation
from tests.media import media
from tests.origin import Origin, Page
from tests.programs import BUILT, find_program

# What a page may have a reader use, besides Ingot's own programs.
PROGRAMS = ("curl", "grpcurl", "jq", "openssl")


def run_commands(pages: list[Path]) -> list[Command]:
    """Of a single page all commands, and of several each command once."""
    commands = [
        command
        for page in pages
        for block in read_blocks(page)
        if not block.not_run and not block.run_by
        for command in block.commands
    ]
    return commands if len(pages) == 1 else list(dict.fromkeys(commands))


# The runbooks have the same few commands again and again.
RUNBOOKS = [page for page in PAGES if page.parent.name == "runbooks"]
READ = [
    *([page] for page in PAGES if page not in RUNBOOKS and run_commands([page])),
    RUNBOOKS,
]


@pytest.mark.parametrize("pages", READ, ids=lambda pages: str(pages[-1].relative_to(ROOT)))
async def test_every_command_on_the_page_works(
    pages: list[Path],
    ingot: Installation,
    client: Client,
    origin: Origin,
    clip: bytes,
    tmp_path: Path,
) -> None:
    commands, name = run_commands(pages), pages[-1].stem
    for program in PROGRAMS:
        if any(program in command.text for command in commands):
            find_program(program)
    for shared in (".venv", "proto"):
        (tmp_path / shared).symlink_to(ROOT / shared)
    (tmp_path / "data").symlink_to(ingot.data_dir)
    (tmp_path / "talk.mp4").write_bytes(clip)
    at = f"{origin.base}/{name}"
    for file in ("clip.mp4", "trailer_480p.mov"):
        origin.serve(f"/{name}/{file}", Page(clip))
    session = Session(
        tmp_path,
        replaced(at, ingot),
        environment(tmp_path, ingot),
        await stored(client, at, origin),
    )

    for block in (block for page in pages for block in read_blocks(page)):
        if block.file:
            (tmp_path / block.file).write_text(block.text)
    for command in commands:
        if command.text == "make up":
            session.output = "".join(ingot.output)
            session.compare(command)
            continue
        await session.run(command)
        if re.search("/(Ingest|Convert)", command.text):
            # A reader reads on meanwhile.
            await (await client.job(session.words["ID"]))


def replaced(at: str, ingot: Installation) -> dict[str, str]:
    """Map the addresses on the pages to those of the test."""
    return {
        "https://www.youtube.com/watch?v=p9kdDet7G14": f"{at}/clip.mp4",
        **dict.fromkeys(
            (
                "https://example.com",
                "https://HOST",
                "https://download.blender.org/peach/trailer",
            ),
            at,
        ),
        "localhost:50051": ingot.grpc_address,
        "localhost:8080": ingot.wait_for(r"^HTTP\s+(\S+)")[1],
    }


def environment(home: Path, ingot: Installation) -> dict[str, str]:
    """What a reader's shell has: Ingot's programs, and the settings of the installation."""
    settings = ingot.s3_settings()
    return {
        "PATH": os.pathsep.join([str(ROOT / ".venv/bin"), os.environ["PATH"], str(BUILT)]),
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "INGOT_SERVER": ingot.grpc_address,
        "INGOT_DATA_DIR": str(ingot.data_dir),
        "INGOT_REDIS_URL": ingot.redis_url,
        "INGOT_S3_ENDPOINT": settings.s3_endpoint,
        "INGOT_S3_ACCESS_KEY": settings.s3_access_key,
        "INGOT_S3_SECRET_KEY": str(settings.s3_secret_key),
        "INGOT_EGRESS_ALLOW_LOOPBACK": "on",
    }


async def stored(client: Client, at: str, origin: Origin) -> dict[str, str]:
    """Store a film of two minutes, and return what the placeholders of pages stand for then."""
    path = f"/{at.rpartition('/')[2]}/film.mp4"
    url = origin.serve(path, Page(media("two-minutes.mp4").read_bytes()))
    job = await client.ingest_video(url)
    film = await job
    return {
        **dict.fromkeys(("URL", "URL_OR_ID"), url),
        "FILE": "talk.mp4",
        "ID": job.id,
        "MEDIA_ID": film.id,
    }


async def test_a_command_may_print_one_long_line(tmp_path: Path) -> None:
    session = Session(tmp_path, {})
    await session.run(Command("head -c 200000 /dev/zero | tr '\\0' x", ""))
    assert session.output == 200_000 * "x"


def test_another_output_than_the_page_shows_is_found(tmp_path: Path) -> None:
    session = Session(tmp_path, {"localhost:1": "127.0.0.1:2"})
    session.output = '{"id": "0pgcd3qe6q8fo1tbjl472todvg", "at": "127.0.0.1:2"}'

    session.compare(Command("", '{"id": "0pgcckm3nd2mf83b6vc5ms0uoo", "at": "localhost:1"}'))
    session.compare(Command("", '{"id": ..., "at": "localhost:1"}'))
    with pytest.raises(AssertionError, match="the page shows"):
        session.compare(Command("", '{"id": ..., "at": "localhost:3"}'))
