"""The clock of one process can be set, and nothing else of it changes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.clocks import Clocks

_HOUR = 3600
_PROGRAM = """
import time
begin = time.monotonic()
time.sleep(0.05)
print(time.time(), time.monotonic() - begin)
"""


def test_a_process_whose_clock_is_set_still_sleeps(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path / "clocks")
    if not clocks.can_be_set:
        pytest.skip("libfaketime is not installed")
    environment = clocks.environment("worker 1")
    clocks.set("worker 1", _HOUR)

    said = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )

    now, slept = map(float, said.stdout.split())
    assert now - time.time() == pytest.approx(_HOUR, abs=60)
    assert 0.05 <= slept < 60
