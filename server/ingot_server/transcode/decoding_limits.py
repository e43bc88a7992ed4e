"""What a conversion may decode: checked by what the file announces, before ffmpeg starts.

ffmpeg's own limits still hold, of memory and processor time, because a file may not say the truth.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import VideoStream
from ingot_server.errors import Failure
from ingot_server.process.limits import MAX_FRAME_RATE, MAX_PIXELS, is_excessive_rate
from ingot_server.transcode.plan import Plan, to_seconds

# Frames of black in H.264 and 8K, which cost the least, took a second of one processor for 1.3e9.
_PIXELS_PER_SECOND: Final = 2_000_000_000


def check_decoding(plan: Plan, processor_time: timedelta) -> None:
    """Check that ffmpeg can decode what the plan needs within that time, of all processors.

    Raises Failure CONVERSION_FAILED for a picture that is too large and a frame rate that no video
    has, and STAGE_TIMEOUT for what would certainly take longer.
    """
    for stream in plan.media.video:
        if stream.index not in _decoded(plan):
            continue
        if stream.width * stream.height > MAX_PIXELS:
            raise Failure(
                reason_pb2.REASON_CONVERSION_FAILED,
                f"The video has pictures of {stream.width}x{stream.height}, and no more than "
                f"{MAX_PIXELS} pixels are decoded. Ingest it with max_height, or convert only "
                "its audio.",
            )
        rate = _frame_rate(stream)
        seconds = to_seconds(stream.duration) or to_seconds(plan.media.duration)
        if is_excessive_rate(rate * seconds, seconds):
            raise Failure(
                reason_pb2.REASON_CONVERSION_FAILED,
                f"The video has {rate:.0f} frames per second, and no more than {MAX_FRAME_RATE} "
                "are decoded. Convert only its audio.",
            )
        if plan.takes_all_processors:
            part = plan.time_range.lead + plan.time_range.length
            _check_cost(stream.width * stream.height * rate * part, processor_time)


def _check_cost(pixels: float, processor_time: timedelta) -> None:
    if pixels <= _PIXELS_PER_SECOND * processor_time.total_seconds():
        return
    raise Failure(
        reason_pb2.REASON_STAGE_TIMEOUT,
        f"The video has {pixels:.2g} pixels in all, which this worker cannot decode within the "
        "time that INGOT_CONVERSION_TIMEOUT allows. Convert a part of it, or ingest it with "
        "max_height.",
        metadata={"stage": "CONVERTING"},
    )


def _frame_rate(stream: VideoStream) -> float:
    rate = stream.frame_rate
    return rate.numerator / rate.denominator if rate.denominator else 0.0


def _decoded(plan: Plan) -> set[int]:
    encoded = None if plan.video is None or plan.video.copied else plan.video
    targets = (plan.image, plan.storyboard, encoded)
    return {target.index for target in targets if target is not None}
