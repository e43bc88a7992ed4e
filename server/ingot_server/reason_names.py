"""The names of reasons outside of protobuf: in ErrorInfo, in the log, for people."""

from __future__ import annotations

from typing import Final

from ingot.v1.reason_pb2 import Reason

PREFIX: Final = "REASON_"


def reason_name(reason: Reason.ValueType) -> str:
    """Return the name of a reason as in ErrorInfo, without the enum's prefix."""
    return Reason.Name(reason).removeprefix(PREFIX)
