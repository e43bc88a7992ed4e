"""A receiver of webhooks, which verifies what it gets as the library for receivers does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from google.protobuf import json_format
from standardwebhooks import Webhook

from ingot.v1.webhook_pb2 import WebhookEvent
from tests.web_server import web_server


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> WebhookEvent:
        return json_format.Parse(self.body, WebhookEvent())

    def verify(self, secrets: Sequence[str]) -> None:
        """Raise WebhookVerificationError unless one of the secrets has signed it."""
        Webhook(secrets[0]).verify(self.body, dict(self.headers))


class Receiver:
    """Accepts everything, unless `answers` has something else to say."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        """Status and headers of the next responses."""
        self.gate: asyncio.Event | None = None
        """Responses wait for it."""
        self.base = ""
        self._arrived = asyncio.Condition()

    def url(self, path: str = "/hook") -> str:
        return self.base + path

    async def got(self, count: int) -> list[Received]:
        """Wait until so many requests came, and return all."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def _serve(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.received.append(Received(request.path_qs, dict(request.headers), body))
        status, headers = self.answers.pop(0) if self.answers else (204, {})
        async with self._arrived:
            self._arrived.notify_all()
        if self.gate is not None:
            await self.gate.wait()
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    running = Receiver()
    async with web_server(running._serve, cancels=True) as address:
        running.base = f"http://{address}"
        yield running
