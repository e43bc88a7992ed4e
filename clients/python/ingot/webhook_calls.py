"""The client's methods for webhooks: what was sent and could not be sent, and sending it again."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ingot.base_client import PAGE_SIZE, BaseClient
from ingot.v1.webhook_pb2 import WebhookDelivery
from ingot.v1.webhook_service_pb2 import (
    ListWebhookDeliveriesRequest,
    ReplayWebhookDeliveryRequest,
)


class WebhookCalls(BaseClient):
    """The methods of the client for webhooks."""

    async def webhook_deliveries(
        self,
        *,
        job_id: str = "",
        state: WebhookDelivery.State.ValueType = WebhookDelivery.STATE_UNSPECIFIED,
    ) -> AsyncGenerator[WebhookDelivery, None]:
        """Yield the deliveries of this job and in this state, those of later jobs first.

        An empty argument matches every delivery.
        """
        request = ListWebhookDeliveriesRequest(page_size=PAGE_SIZE, job_id=job_id, state=state)
        method = self._connection.webhooks.ListWebhookDeliveries
        async for page in self._connection.pages(method, request):
            for delivery in page.deliveries:
                yield delivery

    async def replay_webhook(self, delivery_id: str) -> WebhookDelivery:
        """Have a delivery sent again, under the same id, whatever its state is."""
        response = await self._connection.call(
            self._connection.webhooks.ReplayWebhookDelivery,
            ReplayWebhookDeliveryRequest(delivery_id=delivery_id),
        )
        return response.delivery
