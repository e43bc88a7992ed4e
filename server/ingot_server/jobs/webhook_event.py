"""The event that webhooks send when a job has ended: a WebhookEvent of the contract, as JSON."""

from __future__ import annotations

from typing import Final

from google.protobuf import json_format

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.webhook_pb2 import WebhookEvent
from ingot_server.errors import Failure

_TYPES: Final = {
    job_pb2.JOB_STATE_SUCCEEDED: "job.succeeded",
    job_pb2.JOB_STATE_FAILED: "job.failed",
    job_pb2.JOB_STATE_CANCELLED: "job.cancelled",
}


def webhook_body(job: Job) -> bytes:
    """Return the body of the webhooks of a job that has ended, at most 1 KiB of JSON."""
    event = WebhookEvent(
        type=_TYPES[job.state],
        timestamp=job.end_time,
        data=WebhookEvent.Data(
            job_id=job.id,
            kind=job.kind,
            state=job.state,
            media_id=job.media.id,
            subscription_id=job.subscription_id,
        ),
    )
    if job.HasField("error"):
        event.data.reason = Failure.from_status(job.error).reason
    return json_format.MessageToJson(event, indent=None).encode()


def event_of(body: bytes) -> WebhookEvent:
    """Return the event in the body of a webhook."""
    return json_format.Parse(body, WebhookEvent(), ignore_unknown_fields=True)
