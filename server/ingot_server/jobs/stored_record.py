"""How a job is written in Redis: serialized, and compressed if it is large.

A caller can make a record large, by a long URL and many labels. Both stand in it several times, and
Redis keeps each state that a watcher must not miss, so compression saves most of that memory. What
is not compressed is a serialized Job, which never begins with a zero byte (0 is no field's tag).
"""

from __future__ import annotations

import zlib
from typing import Final

from ingot.v1.job_pb2 import Job

_COMPRESSED: Final = b"\0"
# Usual records are smaller. Compression takes longer than it saves there.
_COMPRESSED_FROM_BYTES: Final = 2048
_FASTEST: Final = 1


def to_record(job: Job) -> bytes:
    """Return what is stored for a job."""
    content = job.SerializeToString()
    if len(content) < _COMPRESSED_FROM_BYTES:
        return content
    return _COMPRESSED + zlib.compress(content, _FASTEST)


def from_record(record: bytes) -> Job:
    """Return the job that is stored as `record`."""
    if record[:1] == _COMPRESSED:
        record = zlib.decompress(record[1:])
    return Job.FromString(record)
