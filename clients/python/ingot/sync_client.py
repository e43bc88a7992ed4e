"""The client for code without asyncio. It has the methods of `Client`, and drives one.

Each method is made of the method of the same name; its arguments, types and documentation are the
same. So a new method of `Client` takes one line here.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from datetime import timedelta
from os import PathLike
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import grpc

from ingot.address import DEFAULT_ADDRESS
from ingot.base_client import RECONNECT_TIMEOUT
from ingot.client import Client
from ingot.job import IngestJob
from ingot.loop_thread import LoopThread
from ingot.sync_job import SyncIngestJob

P = ParamSpec("P")
T = TypeVar("T")


def _call(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[SyncClient, P], T]:
    """Make a method that waits for what `method` returns."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._thread.run(method(self._client, *args, **kwargs))

    return call


def _job_call(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, IngestJob]],
) -> Callable[Concatenate[SyncClient, P], SyncIngestJob]:
    """Make a method that waits for the job that `method` returns."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> SyncIngestJob:
        thread = self._thread
        return SyncIngestJob(thread, thread.run(method(self._client, *args, **kwargs)))

    return call


def _iteration(
    method: Callable[Concatenate[Client, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[SyncClient, P], Generator[T, None, None]]:
    """Make a method that yields what `method` yields."""

    @functools.wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._thread.iterate(method(self._client, *args, **kwargs))

    return call


class SyncClient:
    """A connection to an Ingot server for code without asyncio, which is open within `with`.

    It takes the arguments of `Client`. Its methods wait for their result, the iterators of `Client`
    are ordinary ones, and jobs are SyncIngestJob. Any number of threads may use it. Callbacks, such
    as `progress`, run in a thread of the client, and must not call it.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        token: str = "",
        ca_file: str | PathLike[str] = "",
        certificate_file: str | PathLike[str] = "",
        key_file: str | PathLike[str] = "",
        metadata: Mapping[str, str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        allow_plaintext_token: bool = False,
        timeout: timedelta = timedelta(seconds=30),
        reconnect_timeout: timedelta = RECONNECT_TIMEOUT,
    ) -> None:
        self._client = Client(
            address,
            token=token,
            ca_file=ca_file,
            certificate_file=certificate_file,
            key_file=key_file,
            metadata=metadata,
            credentials=credentials,
            allow_plaintext_token=allow_plaintext_token,
            timeout=timeout,
            reconnect_timeout=reconnect_timeout,
        )
        self._lock = threading.Lock()
        self._running: LoopThread | None = None

    def __repr__(self) -> str:
        return f"Sync{self._client!r}"

    def connect(self) -> Self:
        """Make the client ready for calls, and return it; as `Client.connect`."""
        with self._lock:
            if self._running is not None:
                raise RuntimeError("This client is connected already. Create another one.")
            self._running = LoopThread()
            self._running.run(self._client.connect())
        return self

    def close(self) -> None:
        """Close the connection and end the client's thread; calls of other threads fail.

        Closing again does nothing. The client can be connected again.
        """
        with self._lock:
            thread, self._running = self._running, None
            if thread is not None:
                thread.run(self._client.close())
                thread.stop()

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _thread(self) -> LoopThread:
        thread = self._running
        if thread is None:
            raise RuntimeError(
                "The client is not connected. Use it within `with SyncClient(...) as client`, or"
                " call `client.connect()` before and `client.close()` at the end."
            )
        return thread

    ingest_video = _job_call(Client.ingest_video)
    convert = _job_call(Client.convert)
    upload_media = _job_call(Client.upload_media)
    validate = _call(Client.validate)
    resolve = _call(Client.resolve)

    media = _call(Client.media)
    list_media = _iteration(Client.list_media)
    update_media = _call(Client.update_media)
    delete_media = _call(Client.delete_media)
    download = _call(Client.download)
    download_url = _call(Client.download_url)
    storyboard = _call(Client.storyboard)
    show = _call(Client.show)

    job = _job_call(Client.job)
    jobs = _iteration(Client.jobs)
    watch_jobs = _iteration(Client.watch_jobs)
    cancel = _call(Client.cancel)
    retry = _job_call(Client.retry)

    follow = _call(Client.follow)
    subscription = _call(Client.subscription)
    subscriptions = _iteration(Client.subscriptions)
    update_subscription = _call(Client.update_subscription)
    unfollow = _call(Client.unfollow)
    check_subscription = _call(Client.check_subscription)
    mark_subscription_seen = _call(Client.mark_subscription_seen)

    create_feed = _call(Client.create_feed)
    feeds = _iteration(Client.feeds)
    delete_feed = _call(Client.delete_feed)

    webhook_deliveries = _iteration(Client.webhook_deliveries)
    replay_webhook = _call(Client.replay_webhook)

    sources = _call(Client.sources)
    system = _call(Client.system)
    quota = _call(Client.quota)
