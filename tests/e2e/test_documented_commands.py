"""Every command on the pages for a terminal works, and prints what the page shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingot import Client
from tests.documented_commands import ROOT, Command, Session, read_commands
from tests.installation import Installation
from tests.origin import Origin, Page
from tests.programs import BUILT, find_program


@pytest.mark.parametrize("page", ["tutorial.md", "debugging.md", "http.md"])
async def test_every_command_on_the_page_works(
    page: str, ingot: Installation, client: Client, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    commands = read_commands(ROOT / "docs" / page)
    for program in ("grpcurl", "curl", "jq"):
        if any(program in command.text for command in commands):
            find_program(program)
    for name in (".venv", "proto"):
        (tmp_path / name).symlink_to(ROOT / name)
    origin.serve(f"/{page}/clip.mp4", Page(clip))
    origin.serve(f"/{page}/trailer_480p.mov", Page(clip))
    session = Session(
        tmp_path,
        {
            "https://example.com": f"{origin.base}/{page}",
            "https://download.blender.org/peach/trailer": f"{origin.base}/{page}",
            "localhost:50051": ingot.grpc_address,
            "localhost:8080": ingot.wait_for(r"^HTTP\s+(\S+)")[1],
        },
        {
            "PATH": os.pathsep.join([str(ROOT / ".venv/bin"), os.environ["PATH"], str(BUILT)]),
            "INGOT_SERVER": ingot.grpc_address,
        },
    )

    for command in commands:
        if command.text == "make up":
            session.output = "".join(ingot.output)
            session.compare(command)
            continue
        await session.run(command)
        if "/Ingest" in command.text and "ID" in session.remembered:
            # A reader reads on meanwhile.
            await (await client.job(session.remembered["ID"]))


def test_a_block_of_commands_is_told_from_an_illustration(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        'Text\n\n    curl a \\\n        b\n\n    buf c\n\nText\n\n    {"d": 1}\n\n'
        "More\n\n    $ curl e |\n        tr f g\n    h\n    ...\n    $ curl i\n"
    )

    assert read_commands(page) == [
        Command("curl a \\\n    b"),
        Command("buf c"),
        Command("curl e |\n    tr f g", "h\n..."),
        Command("curl i"),
    ]


def test_another_output_than_the_page_shows_is_found(tmp_path: Path) -> None:
    session = Session(tmp_path, {"localhost:1": "127.0.0.1:2"})
    session.output = '{"id": "0pgcd3qe6q8fo1tbjl472todvg", "at": "127.0.0.1:2"}'

    session.compare(Command("", '{"id": "0pgcckm3nd2mf83b6vc5ms0uoo", "at": "localhost:1"}'))
    session.compare(Command("", '{"id": ..., "at": "localhost:1"}'))
    with pytest.raises(AssertionError, match="the page shows"):
        session.compare(Command("", '{"id": ..., "at": "localhost:3"}'))
