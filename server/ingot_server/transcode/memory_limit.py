"""What bounds the memory of a conversion: the size of a picture, and the size of the machine."""

from __future__ import annotations

from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.process.limits import MAX_PIXELS
from ingot_server.transcode.plan import Plan

_LARGEST: Final = 4 << 30
# A picture that is as large as allowed, with what ffmpeg needs besides.
_LEAST: Final = 1 << 30


def conversion_memory_bytes(settings: Settings, machine_bytes: int) -> int:
    """Return how much address space ffmpeg gets on a machine, or in a container, of that size."""
    if settings.conversion_memory:
        return int(settings.conversion_memory)
    return max(_LEAST, min(_LARGEST, machine_bytes // 2))


def check_pixels(plan: Plan) -> None:
    """Check that no picture is too large to decode, before ffmpeg allocates memory for it.

    Raises Failure CONVERSION_FAILED. ffmpeg itself checks the size again, which may differ from
    what the file announces.
    """
    for stream in plan.media.video:
        if stream.index in _decoded(plan) and stream.width * stream.height > MAX_PIXELS:
            raise Failure(
                reason_pb2.REASON_CONVERSION_FAILED,
                f"The video has pictures of {stream.width}x{stream.height}, and no more than "
                f"{MAX_PIXELS} pixels are decoded. Ingest it with max_height, or convert only "
                "its audio.",
            )


def _decoded(plan: Plan) -> set[int]:
    encoded = None if plan.video is None or plan.video.copied else plan.video
    targets = (plan.image, plan.storyboard, encoded)
    return {target.index for target in targets if target is not None}
