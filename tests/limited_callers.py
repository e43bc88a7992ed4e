"""A caller with a name and limits of its own, at a whole Ingot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import Job
from ingot_server.access_tokens import entry, new_token
from ingot_server.config import Settings
from tests.harness import Harness, running_harness

CALLER = "recorder"
_SCOPES = ["read", "ingest", "convert", "delete"]


class LimitedCaller:
    """Calls of the caller."""

    def __init__(self, harness: Harness, token: str) -> None:
        self._harness = harness
        self._metadata = (("authorization", f"Bearer {token}"),)

    def call(self, method: str, request: Any) -> Any:
        """Call a method of IngestService."""
        return self.call_of(self._harness.api, method, request)

    def call_of(self, service: Any, method: str, request: Any) -> Any:
        return getattr(service, method)(request, metadata=self._metadata)

    async def ask(self, url: str, **fields: Any) -> Job:
        job: Job = (await self.call("Ingest", IngestRequest(url=url, **fields))).job
        return job


@asynccontextmanager
async def limited(
    settings: Settings, quota: Mapping[str, str]
) -> AsyncIterator[tuple[Harness, LimitedCaller]]:
    """Run an Ingot for the caller, whose token has the limits `quota`."""
    token = new_token()
    tokens = entry(token, CALLER, _SCOPES, None, quota)
    async with running_harness(settings.replace(tokens=tokens)) as harness:
        yield harness, LimitedCaller(harness, token)
