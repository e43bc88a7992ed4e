"""Celery's worker, as Ingot needs it: it outlives its broker's failures, and signals stop it."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from celery import Celery
from celery.apps.worker import Worker
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from kombu import Connection

from ingot_server.outage import Outage
from ingot_server.process.stop_signals import stop_signals

_CONSUMER: Final = "queue"
_POLL_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 3
# After so long without an error, the broker has answered a request for messages.
_STEADY_SECONDS: Final = 2.0


class _Consumer(Consumer):
    """A consumer that waits for as long as the broker cannot be used, for whatever reason."""

    def __init__(self, *args: Any, outage: Outage, **options: Any) -> None:
        self._outage = outage
        self._steady: Any = None
        super().__init__(*args, **options)

    def ensure_connected(self, conn: Connection) -> Connection:
        """Return the connection as soon as the broker accepts it."""
        connected = conn.ensure_connection(
            self._connection_failed,
            interval_start=1,
            interval_step=1,
            interval_max=_LONGEST_PAUSE_SECONDS,
            callback=state.maybe_shutdown,
        )
        self.first_connection_attempt = False
        return connected

    def on_ready(self) -> None:
        """Take the outage for ended, unless the broker refuses the request for messages."""
        super().on_ready()
        self._steady = self.timer.call_after(_STEADY_SECONDS, self._outage.succeeded, (_CONSUMER,))

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait before the next attempt to connect."""
        self._wait_out(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Close what is left of the connection, and wait before the next attempt."""
        with warnings.catch_warnings():
            # It recommends to cancel tasks that have lost their connection; ours have leases.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        self._wait_out(exc)

    def _connection_failed(self, error: Exception, _: float) -> None:
        self._outage.failed(_CONSUMER, error)

    def _wait_out(self, error: Exception) -> None:
        if self._steady is not None:
            self._steady.cancel()
        until = time.monotonic() + self._outage.failed(_CONSUMER, error)
        while time.monotonic() < until:
            state.maybe_shutdown()
            time.sleep(_POLL_SECONDS)


class CeleryWorker(Worker):
    """A worker of `app` that takes messages from one queue, in as many `threads`.

    `on_stop` is called when it stops, and must end the running tasks; it may be called in a signal
    handler. A second signal ends the process at once.
    """

    def __init__(
        self,
        app: Celery,
        queue_name: str,
        *,
        threads: int,
        outage: Outage,
        on_stop: Callable[[], None],
    ) -> None:
        self.was_stopped = False
        self._on_stop = on_stop
        super().__init__(
            app=app,
            pool_cls="threads",
            concurrency=threads,
            queues=queue_name,
            consumer_cls=lambda *args, **options: _Consumer(*args, outage=outage, **options),
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )

    def install_platform_tweaks(self, worker: WorkController) -> None:  # noqa: ARG002 - Celery's
        """Install the handlers of signals. Celery's own restart the process on SIGHUP."""
        for number in stop_signals():
            signal.signal(number, self._stop)

    def set_process_status(self, info: str) -> None:
        """Leave the title of the process as it is."""

    def stop(self, in_sighandler: bool = False, exitcode: Any = None) -> None:
        """Stop because of an error."""
        if not self.was_stopped:
            self._on_stop()
        super().stop(in_sighandler=in_sighandler, exitcode=exitcode)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.was_stopped:
            os._exit(128 + number)
        self.was_stopped = True
        state.should_stop = os.EX_OK  # type: ignore[assignment] # Celery's
        self._on_stop()
