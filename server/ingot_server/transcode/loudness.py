"""Loudness after EBU R 128: what the first of the two passes of ffmpeg's `loudnorm` measures.

The second pass applies one gain to all of it, so the dynamics stay; only where that gain would push
a peak past the limit does the filter turn it down moment by moment (`commands.py`).
"""

from __future__ import annotations

import json
import math
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.transcode.commands import Loudness

# BS.1770 measures nothing below its absolute gate.
_SILENCE_LUFS: Final = -70.0


def read_loudness(log: str) -> Loudness | None:
    """The measures at the end of what ffmpeg logged; None for silence, which has no loudness.

    Raises Failure CONVERSION_FAILED when there are none.
    """
    begin, end = log.rfind("{"), log.rfind("}")
    try:
        measured = json.loads(log[begin : end + 1])
        numbers = {name: float(measured[name]) for name in _NAMES}
    except (KeyError, TypeError, ValueError) as error:
        raise Failure(
            reason_pb2.REASON_CONVERSION_FAILED, "The media's loudness cannot be measured."
        ) from error
    found = Loudness(*numbers.values())
    if not all(map(math.isfinite, numbers.values())) or found.integrated <= _SILENCE_LUFS:
        return None
    return found


# In the order of Loudness' fields.
_NAMES: Final = ("input_i", "input_tp", "input_lra", "input_thresh", "target_offset")
