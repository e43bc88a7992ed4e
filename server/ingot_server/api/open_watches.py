"""The open watches of each caller at this server."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from ingot.v1 import reason_pb2
from ingot_server.api.caller import Caller
from ingot_server.errors import Failure


class OpenWatches:
    """A bound on the open watches of each caller, which is its limit `watches`."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def of(self, caller: Caller) -> int:
        """Return how many watches of a caller are open."""
        return self._open[caller.key]

    @contextlib.contextmanager
    def counted(self, caller: Caller) -> Iterator[None]:
        """Count a watch of this caller. Raises Failure TOO_MANY_WATCHES above the limit."""
        limit = caller.limits.watches
        key = caller.key
        if limit and self._open[key] >= limit:
            raise Failure(
                reason_pb2.REASON_TOO_MANY_WATCHES,
                f"You have {limit} open watches, which is the limit. Close one of them. "
                "A single watch can show all jobs.",
            )
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]
