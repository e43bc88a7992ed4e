"""docs/internet.md, from the certificate to the calls of a team, as it is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tests.documented_commands import Session
from tests.documented_pages import ROOT, read_blocks
from tests.programs import BUILT, find_program


async def test_a_team_calls_a_server_that_the_guide_has_started(tmp_path: Path) -> None:
    for program in ("openssl", "curl", "grpcurl"):
        find_program(program)
    blocks = [block for block in read_blocks(ROOT / "docs/internet.md") if block.run_by]
    *before, start = [command for block in blocks[:-1] for command in block.commands]
    reader = Session(
        tmp_path,
        {
            "media.example.com": "localhost",
            **dict.fromkeys(("0.0.0.0:9000", "0.0.0.0:50051", "0.0.0.0:8080"), "0.0.0.0:0"),
        },
        {
            "PATH": os.pathsep.join([str(ROOT / ".venv/bin"), os.environ["PATH"], str(BUILT)]),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "INGOT_DATA_DIR": str(tmp_path / "data"),
            "INGOT_SCRATCH_DIR": str(tmp_path / "scratch"),
        },
    )
    tokens = {}
    for command in before:
        await reader.run(command)
        if made := re.search(r"ingot-server token (\w+)", command.text):
            tokens[made[1]] = reader.output.strip()

    async with reader.running(start.text, r"data ") as printed:
        ports = dict(re.findall(r"^(gRPC|HTTP) +https://\S+:(\d+)$", printed, re.MULTILINE))
        caller = Session(
            tmp_path,
            {
                "media.example.com:50051": f"localhost:{ports['gRPC']}",
                "media.example.com:8080": f"localhost:{ports['HTTP']}",
                "ingot login": f"ingot login <<<{tokens['news']}",
                "INGOT_TOKEN=...": f"INGOT_TOKEN={tokens['archive']}",
            },
            reader.environment,
        )
        for command in blocks[-1].commands:
            await caller.run(command)
