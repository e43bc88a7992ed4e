"""What a worker needs on its machine: programs, and space for files."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor.versions import Versions, order
from ingot_server.findings import Finding, ok, problem, warning
from ingot_server.private_directory import UnsafeDirectory, make_private_directory
from ingot_server.process.confinement import shortcomings
from ingot_server.transcode.commands import ENCODERS, FILTERS
from ingot_server.transcode.ffmpeg import Ffmpeg

_GIB: Final = 1 << 30
_SECONDS: Final = 20.0
_OLD: Final = timedelta(days=90)
# The oldest that yt-dlp accepts.
_OLDEST_DENO: Final = (2, 3)


async def check_ffmpeg(settings: Settings) -> Finding:
    """Run ffmpeg as a conversion does, and look for the encoders that recipes need."""
    name = "ffmpeg"
    printed: list[bytes] = []
    try:
        ffmpeg = Ffmpeg(settings)
        for listing in ("-encoders", "-filters"):
            await ffmpeg.run_command([listing], on_stdout=printed.append)
    except (Failure, RuntimeError) as error:
        message = error.message if isinstance(error, Failure) else str(error)
        return problem(
            name,
            f"It cannot be run: {message}",
            "Install the package imageio-ffmpeg again, or name another ffmpeg in INGOT_FFMPEG.",
        )
    lines = b"".join(printed).decode(errors="replace").splitlines()
    listed = {words[1] for line in lines if len(words := line.split()) > 1}
    missing = sorted((ENCODERS | FILTERS) - listed)
    if missing:
        return problem(
            name,
            f"It lacks {', '.join(missing)}, so some recipes fail.",
            "Use the ffmpeg of the package imageio-ffmpeg, or one that has it.",
        )
    return ok(name, "It runs, and has the encoders and filters of all recipes.")


def check_extractor(settings: Settings) -> list[Finding]:
    """Look for yt-dlp and its JavaScript runtime."""
    return [_check_ytdlp(settings), _check_runtime()]


def check_confinement() -> list[Finding]:
    """Look whether the kernel can confine the processes that read media."""
    name = "confinement"
    remedy = (
        "Use a newer kernel, or a container whose seccomp profile allows it, and run workers on a "
        "machine of their own until then."
    )
    return [warning(name, message, remedy) for message in shortcomings()] or [
        ok(name, "The processes that read media reach only their own files, and the guard.")
    ]


def check_scratch(settings: Settings) -> list[Finding]:
    """Write to the scratch directory, and look how much space is left."""
    name, path = "scratch", settings.scratch_dir
    variable = "INGOT_SCRATCH_DIR"
    try:
        make_private_directory(path)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(b"1")
        free = shutil.disk_usage(path).free
    except OSError as error:
        return [
            problem(
                name,
                f"{path} cannot be written to: {error.strerror or error}.",
                f"Name a directory that this user may write to: {variable}.",
            )
        ]
    except UnsafeDirectory as error:
        return [problem(name, str(error), f"Set {variable}.")]
    findings = []
    reserve = int(settings.scratch_reserve)
    if free < reserve:
        findings.append(
            problem(
                name,
                f"{path} has {free / _GIB:.1f} GiB left, less than its reserve of "
                f"{reserve / _GIB:.1f} GiB, so all jobs wait.",
                f"Free space there, or point {variable} to a larger disk.",
            )
        )
    elif free < reserve + int(settings.max_media_size):
        findings.append(
            warning(
                name,
                f"{path} has {free / _GIB:.1f} GiB left, too little for the largest media item "
                f"({int(settings.max_media_size) / _GIB:.1f} GiB).",
                f"Free space there, point {variable} to a larger disk, or lower "
                "INGOT_MAX_MEDIA_SIZE.",
            )
        )
    return findings or [ok(name, f"{path} has {free / _GIB:.1f} GiB left.")]


def _check_ytdlp(settings: Settings) -> Finding:
    name = "yt-dlp"
    version = Versions(settings).version
    try:
        year, month, day = order(version)[:3]
        age = datetime.now(UTC) - datetime(year, month, day, tzinfo=UTC)
    except ValueError:
        age = timedelta(0)
    if age > _OLD:
        return warning(
            name,
            f"{version} is {age.days} days old; sites change more often than that.",
            "Run `ingot-server extractor update`.",
        )
    return ok(name, f"{version} is in use.")


def _check_runtime() -> Finding:
    name = "deno"
    program = Path(sysconfig.get_path("scripts")) / "deno"
    remedy = "Install the package deno again: without it, YouTube does not work."
    try:
        shown = subprocess.run(  # noqa: S603 - the package's own program
            [program, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return problem(name, f"yt-dlp's JavaScript runtime cannot be run: {error}.", remedy)
    version = shown.split()[1] if len(shown.split()) > 1 else "0"
    if order(version)[:2] < _OLDEST_DENO:
        return problem(name, f"{version} is too old for yt-dlp.", remedy)
    return ok(name, f"{version} is yt-dlp's JavaScript runtime.")
