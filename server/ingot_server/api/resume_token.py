"""The resume tokens of watches: where a watch that was interrupted continues.

A token is base64url of a checksum and of a position. The checksum covers what is watched, so a
token that was changed, or is used for another watch, is refused. It catches mistakes only: a token
is not secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import lru_cache
from typing import Final

from ingot.v1.job_service_pb2 import WatchJobRequest, WatchJobsRequest
from ingot_server.api.status import invalid
from ingot_server.jobs.position import BEGINNING, Position, SnapshotCursor, Version

_CHECKSUM_BYTES: Final = 9


@lru_cache(256)  # All watchers of a job receive the same tokens.
def of_job(job_id: str, sent: Version) -> str:
    """Return the token of a watch of one job that has sent a version."""
    return _token(job_id, f"{sent.epoch}.{sent.revision}")


def read_version(request: WatchJobRequest) -> Version:
    """Return the version that the watch continues after; the earliest without a token.

    Raises Failure INVALID_REQUEST if the token is not one of this job.
    """
    if not request.resume_token:
        return BEGINNING
    return Version(*map(int, _position(request.job_id, request.resume_token).split(".")))


def of_jobs(filters: str, position: Position) -> str:
    """Return the token of a watch of all jobs that has sent everything up to `position`.

    `filters` are those of the watch, see `filters_of`.
    """
    content = f"{position.epoch}.{position.sequence}"
    if position.snapshot is not None:
        content += f".{position.snapshot.left}.{position.snapshot.before}"
    return _token(filters, content)


def read_position(request: WatchJobsRequest) -> Position | None:
    """Return the position that the watch continues after; None without a token.

    Raises Failure INVALID_REQUEST if the token is not one of a watch with these filters.
    """
    if not request.resume_token:
        return None
    epoch, sequence, *snapshot = _position(filters_of(request), request.resume_token).split(".")
    cursor = SnapshotCursor(snapshot[1], int(snapshot[0])) if snapshot else None
    return Position(int(epoch), int(sequence), cursor)


def filters_of(request: WatchJobsRequest) -> str:
    """Return a text that is the same for all requests with the same filters."""
    filters = WatchJobsRequest()
    filters.CopyFrom(request)
    filters.ClearField("resume_token")
    filters.ClearField("snapshot_size")
    return filters.SerializeToString(deterministic=True).hex()


def _token(watched: str, position: str) -> str:
    checksum = hashlib.sha256(f"{watched}\0{position}".encode()).digest()[:_CHECKSUM_BYTES]
    return base64.urlsafe_b64encode(checksum + position.encode()).decode()


def _position(watched: str, token: str) -> str:
    """Return the position in a token. Raises Failure INVALID_REQUEST if the token is wrong."""
    try:
        content = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        position = content[_CHECKSUM_BYTES:].decode()
    except (binascii.Error, UnicodeError):
        position = ""
    if _token(watched, position) != token:
        raise invalid(
            {
                "resume_token": "must be the resume_token of a response to the same request, or "
                "empty to start over"
            }
        )
    return position
