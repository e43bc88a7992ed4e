"""The client: one object with one connection, and a method for every call of the API."""

from __future__ import annotations

from ingot.ingest_calls import IngestCalls
from ingot.job_calls import JobCalls
from ingot.media_calls import MediaCalls
from ingot.subscription_calls import SubscriptionCalls
from ingot.v1.source_service_pb2 import ListSourcesRequest, SourceStatus
from ingot.v1.system_service_pb2 import (
    GetQuotaRequest,
    GetQuotaResponse,
    GetSystemRequest,
    GetSystemResponse,
)
from ingot.webhook_calls import WebhookCalls


class Client(IngestCalls, MediaCalls, JobCalls, SubscriptionCalls, WebhookCalls):
    """A connection to an Ingot server, which is open within `async with`.

    Without `async with`, call `connect` before the first call and `close` after the last one.

    `address` is `HOST[:PORT]`, `unix:PATH`, or `https://HOST[:PORT]` for TLS. `token` is sent as
    `authorization: Bearer TOKEN`, but without TLS only on this machine, unless
    `allow_plaintext_token` is set. `ca_file` is a PEM file of the authorities to trust instead of
    the public ones. `certificate_file` is a PEM file with a certificate of the client, for a server
    that requires one, and `key_file` one with its key; without it the key is in the same file.
    `credentials` turn on TLS for any address. `metadata` is sent with every call as it is.
    In a program that uses OpenTelemetry, the current span is sent, too (`traceparent`).
    `timeout` limits one call including its retries. `reconnect_timeout` limits how long a watch, an
    upload or a download tries to reconnect. Raises ValueError if the arguments are not valid, and
    OSError if a file cannot be read.

    Every method raises IngotError, as the subclass for the reason. Calls that are safe to repeat
    are repeated a few times while the server is unavailable.
    """

    async def sources(self) -> list[SourceStatus]:
        """Return the sources and their status, in the order in which they are tried for a URL."""
        response = await self._connection.call(
            self._connection.sources.ListSources, ListSourcesRequest()
        )
        return list(response.sources)

    async def system(self) -> GetSystemResponse:
        """Return what waits and runs in the installation, and what is wrong with it."""
        return await self._connection.call(self._connection.system.GetSystem, GetSystemRequest())

    async def quota(self) -> GetQuotaResponse:
        """Return the limits of this client's caller, and how much of each it uses."""
        return await self._connection.call(self._connection.system.GetQuota, GetQuotaRequest())
