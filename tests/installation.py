"""A whole Ingot, as a user runs it: `ingot-server up` in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minio import Minio

from ingot_server.config import Settings
from ingot_server.process.launch import launch_command
from ingot_server.setting_values import Secret
from tests.leaks import assert_no_leak

STOP_SECONDS = 60.0

# Short times, so that a test of a permanent failure does not take minutes. What may be slow on a
# busy machine keeps a long timeout.
QUICK_SETTINGS = {
    "INGOT_EGRESS_ALLOW_LOOPBACK": "on",
    "INGOT_HTTP_ADDRESS": "127.0.0.1:0",
    "INGOT_LEASE": "3s",
    "INGOT_RETRY_BACKOFF": "100ms",
    "INGOT_EXISTENCE_TIMEOUT": "1m",
}
# What libraries read, and what would break each of them. Every installation here has it.
FOREIGN_VARIABLES = {
    **dict.fromkeys(
        (
            *("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"),
            *("CELERY_RESULT_BACKEND", "REDIS_URL", "REDIS_HOST"),
        ),
        "redis://127.0.0.1:9/0",
    ),
    **dict.fromkeys(("CELERY_LOADER", "CELERY_CONFIG_MODULE", "DJANGO_SETTINGS_MODULE"), "nothing"),
    **dict.fromkeys(
        (
            *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"),
            *("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_ENDPOINT", "MINIO_ROOT_USER"),
        ),
        "foreign",
    ),
    **dict.fromkeys(
        ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
        "http://127.0.0.1:9",
    ),
    "no_proxy": "",
    "NO_PROXY": "",
    "IMAGEIO_FFMPEG_EXE": "/nowhere/ffmpeg",
    "WEB_CONCURRENCY": "many",
}


class Installation:
    """A running `ingot-server up` on free ports. `output` has the lines it has printed so far."""

    def __init__(self, data_dir: Path, settings: dict[str, str]) -> None:
        self.data_dir = data_dir
        self.output: list[str] = []
        self._ended = False
        self._lines = threading.Condition()
        self.process = subprocess.Popen(
            launch_command(
                *(sys.executable, "-m", "ingot_server.cli", "up"),
                *("--data-dir", str(data_dir), "--grpc-address", "127.0.0.1:0"),
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **{name: text for name, text in os.environ.items() if name[:6] != "INGOT_"},
                **FOREIGN_VARIABLES,
                **QUICK_SETTINGS,
                "INGOT_SCRATCH_DIR": str(data_dir / "scratch"),
                **{f"INGOT_{name.upper()}": value for name, value in settings.items()},
            },
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            # It is printed when the workers are ready, which takes long on a busy machine.
            self.grpc_address = self.wait_for(r"^gRPC\s+(\S+)", seconds=110)[1]
            self.redis_url = self.wait_for(r"^Redis\s+(\S+)")[1]
        except AssertionError:
            self.close()
            raise

    def wait_for(self, pattern: str, *, after: int = 0, seconds: float = 60) -> re.Match[str]:
        """The first match in the output from line `after` on, now or to come."""
        deadline = time.monotonic() + seconds
        with self._lines:
            while True:
                for line in self.output[after:]:
                    if match := re.search(pattern, line):
                        return match
                if self._ended or not self._lines.wait(deadline - time.monotonic()):
                    raise AssertionError(f"no {pattern!r} in\n" + "".join(self.output))

    def s3_settings(self) -> Settings:
        """Settings that lead to the embedded bucket."""
        kept = json.loads((self.data_dir / "s3.json").read_text())
        return Settings(
            s3_endpoint=f"127.0.0.1:{kept['ports']['s3']}",
            s3_access_key=kept["access_key"],
            s3_secret_key=Secret(kept["secret_key"]),
        )

    def bucket_keys(self, prefix: str) -> list[str]:
        """The keys of the bucket that begin with `prefix`."""
        settings = self.s3_settings()
        s3 = Minio(
            settings.s3_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key,
            secure=False,
            region=settings.s3_region,
        )
        found = s3.list_objects(settings.s3_bucket, prefix, recursive=True)
        return [str(item.object_name) for item in found]

    def children(self, role: str) -> list[int]:
        """Process ids of what runs `role`, see `running_children`."""
        return running_children(self.process.pid, role)

    def interrupt(self) -> int:
        """Send one Ctrl-C, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Stops what still runs."""
        if self.process.poll() is None:
            try:
                self.interrupt()
            except subprocess.TimeoutExpired:
                kill_tree(self.process.pid)
                self.process.wait()
        self._reader.join()

    def assert_no_leak(self) -> None:
        """It has written no secret of its own, and none of the test's."""
        keys = self.data_dir / "s3.json"
        own = json.loads(keys.read_text()) if keys.exists() else {}
        secrets = (own.get("secret_key", ""), own.get("signing_key", ""))
        with self._lines:
            output = list(self.output)
        assert_no_leak(self.data_dir, output, *secrets)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._lines:
                    self.output.append(line)
                    self._lines.notify_all()
        with self._lines:
            self._ended = True
            self._lines.notify_all()


@contextmanager
def installation(data_dir: Path, **settings: str) -> Iterator[Installation]:
    """Runs an Installation while the context is open.

    `settings` are the INGOT_ variables without their prefix, in lower case.
    """
    running = Installation(data_dir, settings)
    try:
        yield running
        running.assert_no_leak()
    finally:
        running.close()


def running_children(pid: int, role: str) -> list[int]:
    """Process ids of what runs `role` below the `up` that is `pid`.

    That is serve, worker (also for all jobs), worker --convert, valkey-server or weed.
    """
    found = [
        child
        for child in descendants(pid)
        if (words := command_line(child))
        and (
            Path(words[0].split(" ")[0]).name == role
            or _without_options(words[1:-1]) == ["-m", "ingot_server.cli", *role.split()]
        )
    ]
    # Until it executes its program a child looks like the process that starts it.
    starting = {child for each in found for child in descendants(each)}
    return [child for child in found if child not in starting]


def _without_options(words: list[str]) -> list[str]:
    """Leave out what `up` adds to the command of any process of Ingot."""
    if "--metrics-file" in words:
        words = words[: words.index("--metrics-file")]
    return [each for each in words if each != "--all"]


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and all below it, at once."""
    for victim in (*descendants(pid), pid):
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, the nearest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.parent.name))
    found = list(children.get(pid, ()))
    for child in found:
        found.extend(children.get(child, ()))
    return found


def files_below(directory: Path) -> list[Path]:
    """All files in it and in its folders, but for what is taken away at this moment."""
    return [Path(folder, name) for folder, _, names in os.walk(directory) for name in names]


def names_below(directory: Path) -> set[str]:
    """Of all files and folders in it and in its folders; others may take some away meanwhile."""
    return {name for _, folders, files in os.walk(directory) for name in (*folders, *files)}


def command_line(pid: int) -> list[str]:
    """The words of the command that a process runs; none if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
