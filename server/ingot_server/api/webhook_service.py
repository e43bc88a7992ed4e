"""WebhookService: what webhooks have sent and could not send, and sending it again."""

from __future__ import annotations

from ingot.v1 import reason_pb2, webhook_service_pb2
from ingot.v1.webhook_pb2 import WebhookDelivery
from ingot.v1.webhook_service_pb2 import (
    ListWebhookDeliveriesRequest,
    ListWebhookDeliveriesResponse,
    ReplayWebhookDeliveryRequest,
    ReplayWebhookDeliveryResponse,
)
from ingot_server.api import pagination
from ingot_server.api.caller import Caller, Service
from ingot_server.api.store_health import Stores
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.webhook_deliveries import Delivery, WebhookDeliveries
from ingot_server.jobs.webhook_event import event_of


class WebhookService(Service):
    """The service of webhooks. It sends nothing: workers do."""

    descriptor = webhook_service_pb2.DESCRIPTOR.services_by_name["WebhookService"]
    needs = Stores.REDIS

    def __init__(self, deliveries: WebhookDeliveries, settings: Settings) -> None:
        self._deliveries = deliveries
        self._settings = settings

    async def list_webhook_deliveries(
        self, request: ListWebhookDeliveriesRequest, _: Caller
    ) -> ListWebhookDeliveriesResponse:
        limit = pagination.size(request)
        found = await self._deliveries.page(
            limit=limit + 1,
            before=pagination.start(request),
            job_id=request.job_id,
            state=request.state,
        )
        page, more = pagination.fitting([self._message(each) for each in found], limit)
        token = pagination.token(request, page[-1].id) if more else ""
        return ListWebhookDeliveriesResponse(deliveries=page, next_page_token=token)

    async def replay_webhook_delivery(
        self, request: ReplayWebhookDeliveryRequest, _: Caller
    ) -> ReplayWebhookDeliveryResponse:
        found = await self._deliveries.replay(request.delivery_id)
        if found is None:
            raise Failure(
                reason_pb2.REASON_WEBHOOK_DELIVERY_NOT_FOUND,
                f"There is no webhook delivery {request.delivery_id}. It may have been removed: "
                "list those that there are.",
            )
        return ReplayWebhookDeliveryResponse(delivery=self._message(found))

    def _message(self, delivery: Delivery) -> WebhookDelivery:
        url = delivery.url or self._settings.webhook_url
        message = WebhookDelivery(
            id=delivery.id,
            job_id=delivery.job_id,
            # The query may be a secret.
            url=url.partition("?")[0],
            event=event_of(delivery.body),
            state=delivery.state,
            attempt_count=delivery.attempts,
            last_problem=delivery.problem,
        )
        message.create_time.FromDatetime(delivery.create_time)
        if delivery.state == WebhookDelivery.STATE_PENDING:
            message.next_attempt_time.FromDatetime(delivery.due)
        elif delivery.end_time is not None:
            message.end_time.FromDatetime(delivery.end_time)
        return message
