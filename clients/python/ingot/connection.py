"""The connection: its gRPC options, retried calls, and streams that survive a lost connection."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, TypeVar

import grpc

from ingot.errors import IngotError, ServiceUnavailable, from_call
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot.v1.source_service_pb2_grpc import SourceServiceStub

Request = TypeVar("Request")
Response = TypeVar("Response")

_CONNECT_SECONDS: Final = 5
_FIRST_WAIT_SECONDS: Final = 0.1
_LONGEST_WAIT_SECONDS: Final = 2.0

# What may be called twice to the same end. Ingest and Convert are safe for their request_id.
# DeleteMedia is not here: the second call would say that there is no such media.
_RETRIED: Final[Mapping[str, Sequence[str]]] = {
    "ingot.v1.IngestService": ("Ingest", "Convert", "QueryUpload"),
    "ingot.v1.JobService": ("GetJob", "ListJobs", "CancelJob"),
    "ingot.v1.MediaService": ("GetMedia", "ListMedia", "CreateDownloadUrl"),
    "ingot.v1.SourceService": ("ListSources",),
}

# https://github.com/grpc/proposal/blob/master/A6-client-retries.md; gRPC jitters the waits itself.
_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [
                {"service": service, "method": method}
                for service, methods in _RETRIED.items()
                for method in methods
            ],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": f"{_FIRST_WAIT_SECONDS}s",
                "maxBackoff": f"{_LONGEST_WAIT_SECONDS}s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_OPTIONS: Final[Sequence[tuple[str, str | int]]] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A page of a thousand media can be more than gRPC's default of 4 MiB.
    ("grpc.max_receive_message_length", 64 << 20),
    # A peer that vanished without a word is noticed within 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # What gRPC calls the least backoff is how long one attempt to connect may take.
    ("grpc.min_reconnect_backoff_ms", _CONNECT_SECONDS * 1000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

# A stream that ends with one of these, and without a reason of Ingot's, was cut on its way.
_CUT: Final = frozenset(
    {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
)


class Connection:
    """One channel with the stubs on it. Nothing is dialled before the first call."""

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None,
        metadata: Mapping[str, str],
        timeout_seconds: float,
        reconnect_seconds: float,
    ) -> None:
        options = list(_OPTIONS)
        if target.startswith(("localhost:", "127.", "[::1]:", "unix:")):
            # gRPC would send even these through the proxy that `http_proxy` names.
            options.append(("grpc.enable_http_proxy", 0))
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, options=options)
        self.metadata = tuple(metadata.items())
        self._timeout_seconds = timeout_seconds
        self.reconnect_seconds = reconnect_seconds
        self.ingest = IngestServiceStub(self._channel)
        self.jobs = JobServiceStub(self._channel)
        self.media = MediaServiceStub(self._channel)
        self.sources = SourceServiceStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        """One answer, within the timeout, retries included. Raises IngotError."""
        try:
            return await method(request, timeout=self._timeout_seconds, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from error

    async def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
        request: Callable[[], Request],
    ) -> AsyncGenerator[Response, None]:
        """The responses of a stream that is called again whenever it is lost.

        `request` makes the request of each attempt, for what has not been seen yet. There is no
        end: the reader knows when it has everything, and a stream that ends before that is lost
        too. Raises IngotError for what another attempt cannot mend, and for the last loss once the
        connection has been gone for as long as it may.
        """
        outage_began: float | None = None
        losses = 0
        while True:
            called = time.monotonic()
            call = method(request(), metadata=self.metadata)
            try:
                async for response in call:
                    outage_began = None
                    yield response
                loss: IngotError = ServiceUnavailable("The server ended the stream early.")
            except grpc.aio.AioRpcError as error:
                loss = from_call(error)
                loss.__cause__ = error
                if not is_lost(loss):
                    raise loss from error
            finally:
                call.cancel()
            now = time.monotonic()
            if outage_began is None or now - called > 2 * _CONNECT_SECONDS:
                # A stream that stood this long was connected, though there was nothing to say.
                outage_began, losses = now, 0
            wait = wait_seconds(losses)
            losses += 1
            if now + wait - outage_began > self.reconnect_seconds:
                raise loss
            await asyncio.sleep(wait)


def is_lost(error: IngotError) -> bool:
    """Whether another attempt may do what this one, cut on its way, did not."""
    return error.code is grpc.StatusCode.UNAVAILABLE or (not error.reason and error.code in _CUT)


def wait_seconds(losses: int) -> float:
    """How long to wait after so many losses in a row."""
    longest: float = min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** min(losses, 16))
    return longest * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
