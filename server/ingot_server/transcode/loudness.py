"""Loudness after EBU R 128: what the first pass measures, and the filters of both passes.

The second pass applies one gain to all of it, so the dynamics stay. Only if that gain pushed a peak
past the limit does ffmpeg's `loudnorm` turn it down moment by moment.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure

TARGET_LUFS: Final = -16.0
TARGET_DBTP: Final = -1.5

# BS.1770 measures nothing below its absolute gate.
_SILENCE_LUFS: Final = -70.0


@dataclass(frozen=True, slots=True)
class Loudness:
    """What the first of two passes measured (EBU R 128, ITU-R BS.1770)."""

    integrated: float
    true_peak: float
    range: float
    threshold: float
    offset: float


# In the order of the fields of Loudness.
_NAMES: Final = ("input_i", "input_tp", "input_lra", "input_thresh", "target_offset")


def read_loudness(log: str) -> Loudness | None:
    """Return the measures at the end of ffmpeg's log; None for silence, which has no loudness.

    Raises Failure CONVERSION_FAILED if the log has no measures.
    """
    begin, end = log.rfind("{"), log.rfind("}")
    try:
        measured = json.loads(log[begin : end + 1])
        numbers = {name: float(measured[name]) for name in _NAMES}
    except (KeyError, TypeError, ValueError) as error:
        raise Failure(
            reason_pb2.REASON_CONVERSION_FAILED,
            "The loudness of the media item could not be measured.",
        ) from error
    found = Loudness(*numbers.values())
    if not all(map(math.isfinite, numbers.values())) or found.integrated <= _SILENCE_LUFS:
        return None
    return found


def measuring_filter() -> str:
    """Return the filter that logs the measures as JSON, at log level `info`."""
    return _loudnorm("print_format=json")


def normalizing_filter(loudness: Loudness) -> str:
    """Return the filter that brings measured audio to the target."""
    # If the range were wider than the target, the filter would compress it.
    return _loudnorm(
        f"LRA={min(50.0, max(7.0, loudness.range)):.2f}",
        f"measured_I={loudness.integrated:.2f}",
        f"measured_TP={loudness.true_peak:.2f}",
        f"measured_LRA={loudness.range:.2f}",
        f"measured_thresh={loudness.threshold:.2f}",
        f"offset={loudness.offset:.2f}",
        "linear=true",
    )


def _loudnorm(*options: str) -> str:
    return "loudnorm=" + ":".join((f"I={TARGET_LUFS:g}", f"TP={TARGET_DBTP:g}", *options))
