"""A demonstration of Ingot in a minute: create a clip, serve it, ingest it twice, download it.

Everything runs on this machine: ffmpeg creates the clip, a web server on loopback serves it at
4 MB/s, which leaves time to watch the progress, and a separate Ingot server ingests it.
"""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, AnyStr

import imageio_ffmpeg

if TYPE_CHECKING:
    from _typeshed import SupportsRead, SupportsWrite

BYTES_PER_SECOND = 4_000_000
CHUNK = 64 * 1024
COMMANDS = Path(sys.executable).parent


class SlowHandler(http.server.SimpleHTTPRequestHandler):
    """A web server for one folder that sends at most BYTES_PER_SECOND."""

    def copyfile(self, source: SupportsRead[AnyStr], outputfile: SupportsWrite[AnyStr]) -> None:
        while chunk := source.read(CHUNK):
            outputfile.write(chunk)
            time.sleep(len(chunk) / BYTES_PER_SECOND)

    def log_message(self, *_: object) -> None:
        print(f"  (the web server received a request for {self.path})")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ingot-demo-") as directory:
        folder = Path(directory)
        clip = make_clip(folder)
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), lambda *request: SlowHandler(*request, directory=str(clip.parent))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{clip.name}"
        ingot_server, address = start_ingot(folder / "data")
        try:
            show(clip, url, address, folder)
        finally:
            ingot_server.terminate()
            ingot_server.wait()
            server.shutdown()


def make_clip(folder: Path) -> Path:
    say("Creating a clip of 20 seconds with ffmpeg")
    clip = folder / "www" / "clip.mp4"
    clip.parent.mkdir()
    subprocess.run(
        [
            imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error",
            "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30:duration=20",
            "-f", "lavfi", "-i", "sine=frequency=440:duration=20",
            "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "6M", "-pix_fmt", "yuv420p",
            "-c:a", "aac", "-metadata", "title=A demo clip", "-movflags", "+faststart",
            str(clip),
        ],
        check=True,
    )  # fmt: skip
    print(f"  {clip.stat().st_size:,} bytes")
    return clip


def start_ingot(data_dir: Path) -> tuple[subprocess.Popen[str], str]:
    say("Starting Ingot with its own Redis and S3")
    process = subprocess.Popen(
        [
            *(COMMANDS / "ingot-server", "up", "--data-dir", data_dir),
            *("--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
        ],
        env={
            **os.environ,
            "INGOT_EGRESS_ALLOW_LOOPBACK": "on",
            "INGOT_SCRATCH_DIR": str(data_dir / "scratch"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(" ", line, end="")
        if match := re.match(r"gRPC\s+(\S+)", line):
            return process, match[1]
    sys.exit("Ingot did not start. Run `make up` to see why.")


def show(clip: Path, url: str, address: str, folder: Path) -> None:
    copy = folder / "copy.mp4"
    say("Ingesting it: Ingot downloads, validates and stores it")
    ingot(address, "ingest", url)
    say("Ingesting it again: Ingot returns the stored copy and does not ask the web server")
    ingot(address, "ingest", url)
    say("Downloading it from Ingot")
    ingot(address, "download", url, "-o", str(copy))
    say("Comparing the checksums")
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (clip, copy)]
    print(f"  created     {sums[0]}\n  downloaded  {sums[1]}")
    if sums[0] != sums[1]:
        sys.exit("The checksums differ.")
    print("  The checksums are equal.")


def ingot(address: str, *arguments: str) -> None:
    print("  $ ingot", *arguments)
    subprocess.run([COMMANDS / "ingot", "--server", address, *arguments], check=True)


def say(text: str) -> None:
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    main()
