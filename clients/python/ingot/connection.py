"""The gRPC channel: its options, retries, and streams that survive a lost connection."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Literal, Protocol, TypeVar

import grpc

from ingot.address import Address
from ingot.errors import IngotError, ServiceUnavailable, from_call
from ingot.log import log_call, logger
from ingot.trace_context import TRACEPARENT, current_trace
from ingot.v1.feed_service_pb2_grpc import FeedServiceStub
from ingot.v1.ingest_service_pb2_grpc import IngestServiceStub
from ingot.v1.job_service_pb2_grpc import JobServiceStub
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from ingot.v1.source_service_pb2_grpc import SourceServiceStub
from ingot.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from ingot.v1.system_service_pb2_grpc import SystemServiceStub
from ingot.v1.webhook_service_pb2_grpc import WebhookServiceStub

# Called with False when the connection is lost, and with True when it is back.
ConnectionCallback = Callable[[bool], None]

Request = TypeVar("Request")
Response = TypeVar("Response")


class ListRequest(Protocol):
    """A request for one page of a list."""

    page_token: str


class ListResponse(Protocol):
    """One page of a list."""

    next_page_token: str


class WatchRequest(Protocol):
    """A request for a watch, which can begin where an earlier one stopped."""

    resume_token: str


class WatchResponse(Protocol):
    """What happened to what is watched."""

    @property
    def resume_token(self) -> str: ...

    def HasField(self, name: Literal["heartbeat"], /) -> bool: ...  # noqa: N802 - of protobuf


Page = TypeVar("Page", bound=ListResponse)
PageRequest = TypeVar("PageRequest", bound=ListRequest)
Watching = TypeVar("Watching", bound=WatchRequest)
Update = TypeVar("Update", bound=WatchResponse)

_CONNECT_SECONDS: Final = 5
_INITIAL_BACKOFF_SECONDS: Final = 0.1
_MAX_BACKOFF_SECONDS: Final = 2.0

# Methods that may be repeated. Ingest, Convert and CreateSubscription are safe because of their
# request_id. DeleteMedia is missing, because a second call would fail with MEDIA_NOT_FOUND.
_RETRIED: Final[Mapping[str, Sequence[str]]] = {
    "ingot.v1.FeedService": ("ListFeeds",),
    "ingot.v1.IngestService": ("Ingest", "Convert", "QueryUpload"),
    "ingot.v1.JobService": ("GetJob", "ListJobs", "CancelJob"),
    "ingot.v1.MediaService": ("GetMedia", "ListMedia", "CreateDownloadUrl"),
    "ingot.v1.SourceService": ("ListSources",),
    "ingot.v1.SubscriptionService": (
        *("CreateSubscription", "GetSubscription", "ListSubscriptions", "UpdateSubscription"),
        *("CheckSubscription", "MarkSubscriptionSeen"),
    ),
    "ingot.v1.WebhookService": ("ListWebhookDeliveries", "ReplayWebhookDelivery"),
}

# https://github.com/grpc/proposal/blob/master/A6-client-retries.md; gRPC adds the jitter.
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
                "initialBackoff": f"{_INITIAL_BACKOFF_SECONDS}s",
                "maxBackoff": f"{_MAX_BACKOFF_SECONDS}s",
                "backoffMultiplier": 2,
                # With RESOURCE_EXHAUSTED, a server says when the call may be repeated, if at all.
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
}

_OPTIONS: Final[Sequence[tuple[str, str | int]]] = (
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    # A page of 1000 media items can be larger than gRPC's default of 4 MiB.
    ("grpc.max_receive_message_length", 64 << 20),
    # A server that vanished without closing the connection is noticed within 40 s.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # gRPC uses its minimum backoff as the timeout of one attempt to connect.
    ("grpc.min_reconnect_backoff_ms", _CONNECT_SECONDS * 1000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

# The reason of a server that answers as many calls as it can.
_BUSY: Final = "TOO_MANY_CALLS"
# A call that ends with one of these codes and without a reason of Ingot was interrupted on its way.
_INTERRUPTED: Final = frozenset(
    {grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
)


class Connection:
    """A gRPC channel and the stubs on it; it connects at the first call."""

    def __init__(
        self,
        address: Address,
        *,
        credentials: grpc.ChannelCredentials | None,
        metadata: Mapping[str, str],
        timeout_seconds: float,
        reconnect_seconds: float,
    ) -> None:
        options = list(_OPTIONS)
        if address.is_local:
            # gRPC would use the proxy in `http_proxy` even for addresses of this machine.
            options.append(("grpc.enable_http_proxy", 0))
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address.target, options=options)
        else:
            self._channel = grpc.aio.secure_channel(address.target, credentials, options=options)
        self._metadata = tuple(metadata.items())
        self._has_trace = TRACEPARENT in metadata
        self._timeout_seconds = timeout_seconds
        self.reconnect_seconds = reconnect_seconds
        self.feeds = FeedServiceStub(self._channel)
        self.ingest = IngestServiceStub(self._channel)
        self.jobs = JobServiceStub(self._channel)
        self.media = MediaServiceStub(self._channel)
        self.sources = SourceServiceStub(self._channel)
        self.subscriptions = SubscriptionServiceStub(self._channel)
        self.system = SystemServiceStub(self._channel)
        self.webhooks = WebhookServiceStub(self._channel)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call is sent with: also the current span, unless the client was given another."""
        return self._metadata if self._has_trace else self._metadata + current_trace()

    async def close(self) -> None:
        await self._channel.close()

    async def call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request
    ) -> Response:
        """Call a unary method, and return its response.

        The timeout includes the retries. Raises IngotError.
        """
        begin = time.monotonic()
        try:
            response = await method(request, timeout=self._timeout_seconds, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            log_call(request, error.code(), begin)
            raise from_call(error) from error
        log_call(request, grpc.StatusCode.OK, begin)
        return response

    async def pages(
        self, method: grpc.aio.UnaryUnaryMultiCallable[PageRequest, Page], request: PageRequest
    ) -> AsyncGenerator[Page, None]:
        """Yield all pages of a list. Raises IngotError."""
        while True:
            page = await self.call(method, request)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Request, Response],
        request: Callable[[], Request],
        connection_changed: ConnectionCallback | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Yield the responses of a stream, which is called again whenever it is interrupted.

        `request` makes the request of each call, for what has not been received yet. The generator
        never ends by itself: the reader closes it when it has everything, and a stream that the
        server ends before that counts as interrupted. `connection_changed` is called with False
        when the stream is interrupted, and with True at its next response. Raises IngotError if
        another call cannot help, or if the connection is gone for longer than `reconnect_seconds`.
        """
        outage = Outage(self.reconnect_seconds, connection_changed)
        while True:
            called = time.monotonic()
            sent = request()
            call = method(sent, metadata=self.metadata)
            try:
                async for response in call:
                    outage.end()
                    yield response
                failure: IngotError = ServiceUnavailable("The server ended the stream early.")
            except grpc.aio.AioRpcError as error:
                log_call(sent, error.code(), called)
                failure = from_call(error)
                failure.__cause__ = error
                if not is_interrupted(failure):
                    raise failure from error
            finally:
                if call.cancel():
                    log_call(sent, grpc.StatusCode.OK, called)
            if time.monotonic() - called > 2 * _CONNECT_SECONDS:
                # A call that lasted this long was connected, although nothing was sent.
                outage.end()
            await outage.wait(failure)

    async def watch(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Watching, Update],
        request: Watching,
        connection_changed: ConnectionCallback | None = None,
    ) -> AsyncGenerator[Update, None]:
        """Yield the responses of a watch, without heartbeats; after a lost connection, the next.

        If the server cannot resume the watch, it starts over with a snapshot. The generator ends
        and raises, and calls `connection_changed`, as that of `stream` does.
        """
        while True:
            try:
                responses = self.stream(method, lambda: request, connection_changed)
                async with aclosing(responses) as stream:
                    async for response in stream:
                        request.resume_token = response.resume_token
                        if not response.HasField("heartbeat"):
                            yield response
            except IngotError as error:
                if error.reason != "RESUME_TOKEN_EXPIRED" or not request.resume_token:
                    raise
                request.resume_token = ""
                if connection_changed is not None:
                    connection_changed(True)  # the server has answered


class Outage:
    """The time since the connection was lost, and the backoff between attempts to reconnect."""

    def __init__(self, limit_seconds: float, changed: ConnectionCallback | None = None) -> None:
        self._limit_seconds = limit_seconds
        self._changed = changed
        self._start: float | None = None
        self._attempts = 0

    def end(self) -> None:
        """Note that the connection works again."""
        if self._start is not None and self._changed is not None:
            self._changed(True)
        self._start = None
        self._attempts = 0

    async def wait(self, failure: IngotError) -> None:
        """Wait before the next attempt. Raises `failure` if the outage exceeds its limit."""
        now = time.monotonic()
        if self._start is None:
            self._start = now
            if self._changed is not None:
                self._changed(False)
        backoff = _backoff_seconds(self._attempts)
        if failure.reason == _BUSY and failure.retry_delay is not None:
            backoff = max(backoff, failure.retry_delay.total_seconds())
        self._attempts += 1
        if now + backoff - self._start > self._limit_seconds:
            raise failure
        logger.debug("The next attempt is in %.1f s.", backoff)
        await asyncio.sleep(backoff)


def is_interrupted(error: IngotError) -> bool:
    """Return whether a call was interrupted or not begun, so that another one may succeed."""
    return (
        error.code is grpc.StatusCode.UNAVAILABLE
        or error.reason == _BUSY
        or (not error.reason and error.code in _INTERRUPTED)
    )


def _backoff_seconds(attempts: int) -> float:
    """Return how long to wait after so many failed attempts in a row."""
    longest: float = min(_MAX_BACKOFF_SECONDS, _INITIAL_BACKOFF_SECONDS * 2 ** min(attempts, 16))
    return longest * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
