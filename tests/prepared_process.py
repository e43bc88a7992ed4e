"""The program that `prepared_programs.py` starts: it forks a whole fork server for each connection.

    python -I prepared_process.py PROGRAM ARGUMENT...

Standard input is the socket that it listens on. It prepares PROGRAM at the first connection.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys

from ingot_server.process.fork_server_main import prepare, serve_children
from ingot_server.process.launch import die_with_parent

_MESSAGE_BYTES = 4096


def main(program: str, *arguments: str) -> None:
    listener = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    select.select([listener], [], [])
    serve = prepare(program, *arguments)
    if "yt_dlp" in sys.modules:
        _search_a_page()
        gc.collect()
        gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The kernel reaps those that have ended.
    this = os.getpid()
    while True:
        control, _ = listener.accept()
        if _has_closed(control) or os.fork():
            control.close()
            continue
        try:
            listener.close()
            os.setsid()
            die_with_parent(this)
            serve_children(control, serve, json.loads(control.recv(_MESSAGE_BYTES)))
        finally:
            os._exit(0)


def _has_closed(control: socket.socket) -> bool:
    """Whether the other end was closed during the preparation."""
    try:
        return not control.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _search_a_page() -> None:
    """Do what each child would do at its first web page: import every extractor, 0.8 s."""
    import yt_dlp

    with yt_dlp.YoutubeDL({"quiet": True}) as ydl:
        for extractor in yt_dlp.extractor.gen_extractor_classes():
            list(extractor.extract_from_webpage(ydl, "http://host.invalid/", "<html></html>"))


if __name__ == "__main__":
    main(*sys.argv[1:])
