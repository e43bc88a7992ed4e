"""What the process is like that extractions are forked from: yt-dlp's real one, prepared."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest

import ingot_server.extractor

PROGRAM = Path(ingot_server.extractor.__file__).with_name("child_main.py")
# Prepares it, and prints what it is like then.
INSPECTION = """
import json, os, stat, sys, threading
from ingot_server.process import fork_server_main
import yt_dlp.networking.common as networking
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor
_, before, path, ffmpeg = sys.argv
exec(before)
fork_server_main.prepare(path, ffmpeg)
program = sys.modules["forked_program"]
def is_socket(name):
    try:
        return stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode)
    except OSError:
        return False
contexts = getattr(networking, "make_ssl_context", None)
print(json.dumps({
    "threads": threading.active_count(),
    "sockets": sum(map(is_socket, os.listdir("/proc/self/fd"))),
    "contexts": contexts.cache_info().currsize if contexts else 0,
    "ffmpeg": FFmpegPostProcessor._version_cache.get(ffmpeg),
    "reads_dates": "_strptime" in sys.modules,
    "extractors": len(program._extractors),
    "instances": sum(not isinstance(each, type) for each in program._extractors.values()),
    "last": list(program._extractors)[-1],
    "output": program._output,
}))
"""


def prepared(*, before: str = "", ffmpeg: str = "") -> tuple[dict[str, Any], str]:
    """Return what it is like, and what it said, if `before` runs first."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", INSPECTION, before, str(PROGRAM)),
            ffmpeg or imageio_ffmpeg.get_ffmpeg_exe(),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout), done.stderr


def test_children_find_what_their_first_extraction_would_make_and_nothing_else() -> None:
    found, said = prepared()

    assert said == ""
    assert found["contexts"] == 1
    assert found["ffmpeg"]
    assert found["reads_dates"]

    assert found["threads"] == 1
    assert found["sockets"] == 0
    assert found["extractors"] > 1000
    assert found["instances"] == 0
    assert found["last"] == "Generic"
    assert found["output"] == 1


@pytest.mark.parametrize(
    "change",
    [
        "del networking.make_ssl_context",
        "networking.RequestDirector.add_handler = None",
        "networking.Response = None",
    ],
)
def test_a_yt_dlp_that_cannot_be_warmed_up_is_used_all_the_same(change: str) -> None:
    found, said = prepared(before=change)

    assert "cannot be warmed up" in said
    assert found["extractors"] > 1000
    assert found["instances"] == 0
    assert found["output"] == 1


def test_an_ffmpeg_that_does_not_answer_is_asked_again(tmp_path: Path) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o700)

    found, _ = prepared(ffmpeg=str(broken))

    assert found["ffmpeg"] is None
