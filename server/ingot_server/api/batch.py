"""Batches: many requests in one call, each with a result of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Final, TypeVar

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.api.pagination import LARGEST_BYTES
from ingot_server.api.status import check, status_of
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.errors import Failure

# More would only wait for the same connections to Redis and S3.
_AT_ONCE: Final = 16

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response")


async def run_batch(
    requests: Iterable[_Request], call: Callable[[_Request], Awaitable[_Response]]
) -> list[_Response | Status]:
    """Check and call each request; return the responses in order, for a Failure its status."""
    semaphore = asyncio.Semaphore(_AT_ONCE)

    async def result(request: _Request) -> _Response | Status:
        async with semaphore:
            try:
                check(request)
                return await call(request)
            except Failure as failure:
                return status_of(failure)

    return await gather_or_cancel(map(result, requests))


def shortened(results: Iterable[Job | Status]) -> Iterator[Job | Status]:
    """Yield results; once they exceed the size of a response, only what identifies a job."""
    total = 0
    for result in results:
        total += result.ByteSize()
        if total <= LARGEST_BYTES or isinstance(result, Status):
            yield result
        else:
            yield Job(
                id=result.id,
                kind=result.kind,
                state=result.state,
                cached=result.cached,
                url=result.url,
                media=Media(id=result.media.id),
            )
