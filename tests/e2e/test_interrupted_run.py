"""A test run that is interrupted or killed leaves none of its servers behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.installation import descendants
from tests.waiting import TIMEOUT_SECONDS

START_SECONDS = 120.0

ROOT = Path(__file__).parents[2]
RUN = """
import time
from tests.installation import installation
from tests.servers import stores

nothing = {{"workers": "0", "convert_workers": "0"}}

def test_that_takes_long(tmp_path):
    with stores("valkey-seaweedfs"), installation(tmp_path / "data", **nothing):
        with open({marker!r}, "w") as marker:
            marker.write("running")
        time.sleep(600)
"""


@contextmanager
def run_of_pytest(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run of pytest with one xdist worker, whose only test waits with its servers running."""
    marker = directory / "marker"
    (directory / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (directory / "test_long.py").write_text(RUN.format(marker=str(marker)))
    run = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "--numprocesses=1", "-p", "no:cacheprovider"),
            *("-c", ROOT / "pyproject.toml", f"--basetemp={directory / 'temp'}", directory),
        ],
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not marker.exists():
            assert run.poll() is None, "the run ended before it was interrupted"
            assert time.monotonic() < deadline, "the servers did not start"
            time.sleep(0.05)
        yield run
    finally:
        run.kill()
        run.wait()


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux ends the children of a dead process"
)
@pytest.mark.parametrize(
    ("target", "number"),
    [
        # Of SIGINT to pytest, its worker gets one too.
        *(("pytest", number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)),
        ("xdist worker", signal.SIGKILL),
    ],
)
def test_an_interrupted_run_leaves_no_server_behind(
    tmp_path: Path, number: signal.Signals, target: str
) -> None:
    with run_of_pytest(tmp_path) as run:
        started = descendants(run.pid)
        handles = [os.pidfd_open(pid) for pid in started]
        assert len(handles) > 6, "a worker, Valkey, SeaweedFS, and an installation with its own"
        os.kill(run.pid if target == "pytest" else started[0], number)
        if number == signal.SIGINT and target == "pytest":
            os.kill(started[0], number)  # a terminal interrupts the whole group
        for handle in handles[1:]:
            assert select.select([handle], [], [], TIMEOUT_SECONDS)[0]
        for handle in handles:
            os.close(handle)
