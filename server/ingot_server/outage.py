"""What the log says about a server that cannot be used: one line when that begins and when it ends.

Several tasks of a process use the same server, and each tries again for ever. Without an Outage
each of them would write a line each time.
"""

from __future__ import annotations

import random
import threading
import time
from typing import Final

from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event

logger = EventLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 3.0
_FIRST_REMINDER_SECONDS: Final = 10.0
_LONGEST_REMINDER_SECONDS: Final = 3600.0


class Outage:
    """The outages of one server, as one process sees them. Can be used from several threads.

    An outage begins when one task fails, and ends when no task does: a Redis that is read-only
    answers some tasks and refuses others.
    """

    def __init__(self, server: str) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._began = 0.0
        self._reminder = 0.0

    def failed(self, task: str, cause: object) -> float:
        """Tell that `task` has failed. Returns the seconds after which it should try again.

        They grow with each failure of the task in a row.
        """
        now = time.monotonic()
        with self._lock:
            if not self._failures:
                self._began, self._reminder = now, _FIRST_REMINDER_SECONDS
                logger.warning(
                    Event.SERVER_LOST,
                    "%s cannot be used, Ingot waits for it: %s",
                    self._server,
                    cause,
                )
            elif now - self._began >= self._reminder:
                self._reminder = min(2 * self._reminder, self._reminder + _LONGEST_REMINDER_SECONDS)
                logger.warning(
                    Event.SERVER_LOST,
                    "%s has not been usable for %d s: %s",
                    self._server,
                    now - self._began,
                    cause,
                )
            failures = self._failures.get(task, 0)
            self._failures[task] = failures + 1
        pause: float = min(FIRST_PAUSE_SECONDS * 2 ** min(failures, 10), LONGEST_PAUSE_SECONDS)
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

    def succeeded(self, task: str) -> None:
        """Tell that `task` has used the server."""
        if task not in self._failures:
            return
        with self._lock:
            self._failures.pop(task, None)
            if not self._failures:
                logger.info(
                    Event.SERVER_BACK,
                    "%s can be used again after %.1f s",
                    self._server,
                    time.monotonic() - self._began,
                )
