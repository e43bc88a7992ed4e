"""Keeps the extraction child from starting other programs and from bypassing the egress guard.

`confine_process` has the kernel enforce this. `lock` adds an audit hook, which Python code cannot
remove: it knows addresses, which the kernel's rules do not, and holds on every system. The other
functions make sure that yt-dlp has no reason to try.
"""

from __future__ import annotations

import os
import resource
import ssl
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yt_dlp.downloader.external
import yt_dlp.networking.common
import yt_dlp.utils

from ingot_server.extractor import tls_contexts
from ingot_server.extractor.protocol import Request
from ingot_server.process.confinement import Confinement, confine

# Containers and subtitles: ffmpeg cannot open a playlist or a list of other files as one of these.
_CONTAINERS: Final = (
    "aac,ac3,avi,eac3,flac,flv,h264,hevc,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,"
    "mp3,mpeg,mpegts,ogg,wav,srt,ass"
)
_FILES_ONLY: Final = ("-protocol_whitelist", "file,pipe", "-format_whitelist", _CONTAINERS)


def refuse_downloaders() -> None:
    """Disable every downloader but yt-dlp's own."""
    yt_dlp.downloader.external.ExternalFD.real_download = _refuse_network
    yt_dlp.downloader.external.FFmpegFD.real_download = _refuse_network


def confine_process(request: Request) -> None:
    """Have the kernel confine this process to the files of the job and to the guard."""
    # Deno reads /proc/self/maps, whose number is not known yet. What /proc tells of other processes
    # is what `ps` shows; their environments and memory stay closed.
    read = ("/proc", request.ca_file, request.plugins)
    ports = (urlsplit(request.proxy).port, request.plugin_port)
    written = (request.cache, request.directory, request.cookies_file)
    confine(
        Confinement(
            reads=[path for path in read if path],
            writes=[path for path in written if path],
            programs=[request.ffmpeg, request.deno],
            ports=[port for port in ports if port],
        )
    )


def contain(request: Request) -> None:
    """Send every request to the guard, limit memory, and let ffmpeg open only media and subtitles.

    An extractor cannot choose another proxy or none. This also covers libcurl, which the audit
    hook of `lock` does not see. Deno's address space is not limited, because V8 reserves far more
    than it uses; the worker watches its resident memory.
    """
    # Without an empty "no", curl would read NO_PROXY from the environment.
    proxies = {"all": request.proxy, "no": ""}
    yt_dlp.networking.common.RequestHandler._get_proxies = lambda *_: proxies.copy()  # noqa: SLF001
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, hard))
    begin = yt_dlp.utils.Popen.__init__

    def start(self: Any, args: Any, *rest: Any, **named: Any) -> None:
        if args and args[0] == request.deno:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        if args and args[0] == request.ffmpeg:
            args = [
                part for one in args for part in ((*_FILES_ONLY, one) if one == "-i" else (one,))
            ]
        try:
            begin(self, args, *rest, **named)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, hard))

    yt_dlp.utils.Popen.__init__ = start


def lock(request: Request) -> None:
    """Allow only ffmpeg and deno to start, and connections only to the guard."""
    guard = urlsplit(request.proxy)
    programs = {request.ffmpeg, request.deno}

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            program, arguments = values[0], list(map(str, values[1]))
            reads = "-i" in arguments
            if program not in programs or (reads and "-format_whitelist" not in arguments):
                raise PermissionError(f"{os.fsdecode(program)} must not be started like this")
        elif event in {"os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn"}:
            raise PermissionError(f"{event} is not allowed")
        elif event == "socket.connect":
            address = values[1]
            if isinstance(address, tuple) and address[:2] == (guard.hostname, guard.port):
                return
            local = isinstance(address, tuple) and address[0] in {"127.0.0.1", "::1"}
            if not (local and address[1] == request.plugin_port):
                raise PermissionError("Connections are allowed only through the egress guard")

    sys.addaudithook(watch)


def _refuse_network(*_arguments: Any, **_named: Any) -> bool:
    raise yt_dlp.utils.DownloadError("This format needs a downloader that is not allowed")


def trust(request: Request) -> None:
    """Write the system's and the installation's authorities to one file for OpenSSL and curl."""
    if not request.ca_file:
        return
    system = ssl.get_default_verify_paths().cafile
    texts = [Path(file).read_text() for file in (system, request.ca_file) if file]
    target = Path(request.cache, "authorities.pem")
    target.write_text("\n".join(texts))
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        os.environ[name] = str(target)
    tls_contexts.forget()
