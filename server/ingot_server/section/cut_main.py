"""The program that cuts one untrusted file (see `cutter.py`).

    request    {"path": ..., "directory": ..., "start": ..., "end": ..., "exact": ...}; "end" is
               null for the end of the media
               "remote": {"size": ..., "received": ...} if the file has only so many of the first
               bytes of one of that size, and gets what is asked for; else null
    response   {"need": [begin, end]}, any number of times: append this range, and send a line
               {"path": ..., "start": ..., "whole": ...}: the fields of a Cut
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
from ingot_server.process.confinement import Confinement, confine
from ingot_server.section.cut import NoExactCut, NoKeyFrame, OutsideMedia, cut
from ingot_server.section.remote_file import NotIndexed, RemoteFile
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
    request = json.loads(line)
    confine(Confinement(reads=[request["path"]], writes=[request["directory"]]))
    try:
        response = _respond(request)
    except (OutsideMedia, NoKeyFrame, NoExactCut, NotIndexed, Uncuttable, OSError) as error:
        response = {"error": type(error).__name__, "message": str(error)}
        if isinstance(error, OSError):
            response = {"error": "OSError", "message": error.strerror or str(error)}
    sys.stdout.write(json.dumps(response) + "\n")
    sys.stdout.flush()
    os._exit(0)  # Nothing here needs an orderly end, which would take time.


def _respond(request: dict[str, Any]) -> dict[str, Any]:
    descriptor = os.open(request["path"], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with io.FileIO(descriptor) as file:
        remote = request["remote"]
        found = cut(
            [Input(NamelessFile(file)) if remote is None else _remote(request["path"], **remote)],
            request["directory"],
            request["start"],
            math.inf if request["end"] is None else request["end"],
            exact=request["exact"],
        )
    return {"path": found.path, "start": found.start_seconds, "whole": found.whole_seconds}


def _remote(path: str, *, size: int, received: int) -> Input:
    file = RemoteFile(path, size, _ask_for)
    file.has_first(received)
    return Input(file, needs_index=True)


def _ask_for(begin: int, end: int) -> None:
    sys.stdout.write(json.dumps({"need": [begin, end]}) + "\n")
    sys.stdout.flush()
    if not sys.stdin.buffer.readline():
        os._exit(0)


if __name__ == "__main__":
    prepare()
    serve()
