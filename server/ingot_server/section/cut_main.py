"""The program that cuts one untrusted file (see `cutter.py`).

    request    {"path": ..., "directory": ..., "start": ..., "end": ...}; "end" is null for
               the end of the media
    response   {"path": ..., "start": ..., "whole": ...}: the fields of a Cut
    or         {"error": ..., "message": ...}: the name of an exception of cut.py, or OSError

As in probe_main.py, FFmpeg gets an open file without a name, and only the demuxers of containers.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
from typing import Any

import av.logging

from ingot_server.probe.probe_main import NamelessFile
from ingot_server.section.cut import NoKeyFrame, OutsideMedia, cut
from ingot_server.section.tracks import Input, Uncuttable


def prepare() -> None:
    """Do what every file needs; here, the imports were all of it."""


def serve() -> None:
    """Respond to one request, and end the process."""
    logging.getLogger("libav").propagate = False
    av.logging.set_level(av.logging.ERROR)
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    try:
        response = _respond(json.loads(line))
    except (OutsideMedia, NoKeyFrame, Uncuttable, OSError) as error:
        response = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, OSError):
            response = {"error": "OSError", "message": error.strerror or str(error)}
    sys.stdout.write(json.dumps(response) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Nothing here needs an orderly end, which would take time.


def _respond(request: dict[str, Any]) -> dict[str, Any]:
    descriptor = os.open(request["path"], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with io.FileIO(descriptor) as file:
        found = cut(
            [Input(NamelessFile(file))],
            request["directory"],
            request["start"],
            math.inf if request["end"] is None else request["end"],
        )
    return {"path": found.path, "start": found.start_seconds, "whole": found.whole_seconds}


if __name__ == "__main__":
    prepare()
    serve()
