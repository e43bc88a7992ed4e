"""A service as process 1 of a container."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from typing import Final

import pytest

from tests.installation import descendants
from tests.waiting import TIMEOUT_SECONDS

UNSHARE: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--map-root-user")

# It leaves an orphan, and waits until that is reaped; then it waits for a signal.
SERVICE: Final = """
import os, signal, subprocess, sys, time
from ingot_server.process.init import continue_as_child_of_init

continue_as_child_of_init()
assert os.getpid() != 1 and os.getppid() == 1
orphan = int(subprocess.check_output(["sh", "-c", "sleep 0.1 >&- & echo $!"]))
while os.path.exists(f"/proc/{orphan}"):
    time.sleep(0.01)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
print("ready", flush=True)
signal.pause()
"""


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="no namespace of processes can be made here")
def test_process_1_reaps_orphans_passes_signals_on_and_ends_as_the_service_does() -> None:
    process = subprocess.Popen(
        [*UNSHARE, sys.executable, "-c", SERVICE], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        init, _ = descendants(process.pid)
        os.kill(init, signal.SIGTERM)
        assert process.wait(TIMEOUT_SECONDS) == 3
    finally:
        process.kill()
        process.communicate()
