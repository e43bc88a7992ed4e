"""One attempt to deliver a webhook: a signed POST request through the guard.

The URL may be a stranger's, so the guard treats it like one of a source; only INGOT_EGRESS_ALLOW
opens private addresses. Redirects are not followed, and the response's body is not read. Neither a
log nor a problem has the path or the query of the URL.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from yarl import URL

from ingot_server.allowed_destinations import parse_allowed_destinations
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.jobs.webhook_deliveries import Delivery, Sent
from ingot_server.tracing import scopes
from ingot_server.transfer.fetch import Fetcher
from ingot_server.transfer.headers import parse_retry_after
from ingot_server.webhooks.signature import secrets_of, signature_headers

LONGEST_DELAY: Final = timedelta(hours=6)
_JITTER: Final = (0.8, 1.2)
_GONE: Final = 410
_REPORT_SECONDS: Final = 10.0
_NO_URL: Final = Sent("INGOT_WEBHOOK_URL is not set any more.", LONGEST_DELAY)
_NO_SECRETS: Final = Sent("INGOT_WEBHOOK_SECRETS is not set any more.", LONGEST_DELAY)


class Sender:
    """Sends webhooks; `connected_sender` gives it."""

    def __init__(self, settings: Settings, fetcher: Fetcher) -> None:
        self._settings = settings
        self._fetcher = fetcher

    @property
    def lease(self) -> timedelta:
        """Return the time within which an attempt has ended and is on record."""
        settings = self._settings
        return (
            settings.connect_timeout + settings.stall_timeout + timedelta(seconds=_REPORT_SECONDS)
        )

    async def send(self, delivery: Delivery) -> Sent:
        """Make one attempt. A failure is a part of the result.

        It is a span of the job's trace, which the receiver gets as `traceparent`.
        """
        url = delivery.url or self._settings.webhook_url
        if not url:
            return _NO_URL
        secrets = secrets_of(url, self._settings)
        if not secrets:
            return _NO_SECRETS
        headers = {
            "Content-Type": "application/json",
            **signature_headers(delivery.id, delivery.body, secrets),
        }
        recorder = scopes.recorder()
        if recorder is None:
            return await self._post(delivery, url, headers)
        span = recorder.delivery(url, delivery.trace)
        span.set(delivery_id=delivery.id, job_id=delivery.job_id, attempt=delivery.attempts)
        scope = scopes.enter(span)
        try:
            sent = await self._post(delivery, url, {**headers, "traceparent": span.traceparent})
            if sent.problem:
                span.fail("problem", sent.problem)
            return sent
        finally:
            scope.end()

    async def _post(self, delivery: Delivery, url: str, headers: Mapping[str, str]) -> Sent:
        delay = retry_delay(delivery.attempts, self._settings.retry_backoff)
        try:
            async with self._fetcher.post(url, headers, delivery.body) as response:
                status, retry_after = response.status, response.headers.get("Retry-After", "")
        except Failure as failure:
            return Sent(failure.message, delay)
        if 200 <= status < 300:
            return Sent()
        problem = f"{URL(url, encoded=True).raw_host} returned the status {status}."
        return Sent(problem, max(delay, parse_retry_after(retry_after)), is_gone=status == _GONE)


def retry_delay(attempts: int, backoff: timedelta) -> timedelta:
    """Return the time after so many attempts until the next one: doubled each time, with jitter."""
    longest = LONGEST_DELAY / backoff if backoff else 0.0
    factor = min(2.0 ** min(attempts - 1, 32), longest)
    return backoff * factor * random.uniform(*_JITTER)  # noqa: S311


@asynccontextmanager
async def connected_sender(settings: Settings, guard: EgressProxy) -> AsyncIterator[Sender]:
    """Yield a sender that uses the guard of this worker, which has started."""
    allowed = parse_allowed_destinations(settings.egress_allow)
    grant = guard.grant("webhooks", allowed=allowed)
    try:
        async with Fetcher(settings, grant.proxy_url, checks_hosts=False) as fetcher:
            yield Sender(settings, fetcher)
    finally:
        grant.revoke()
