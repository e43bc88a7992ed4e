"""Python imports this first in a process whose clock is set (`tests/chaos/clocks.py`).

libfaketime 0.9.10 refuses the absolute times of clock_nanosleep(2) with EINVAL. time.sleep uses
them since Python 3.11, so every sleep would fail.
"""

from __future__ import annotations

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select((), (), (), float(seconds))


time.sleep = _sleep
