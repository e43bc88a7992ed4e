"""The queue between API and workers: Celery, carrying job ids and nothing else.

A message is a hint that a job waits; its record decides (`records.py`). So a message that comes
twice does no harm, and one that is lost is replaced by the sweep. Conversions have a queue, and
workers, of their own, so that no download ever waits for ffmpeg: `ingot` and `ingot-convert`. On
Redis all keys begin with `ingot:queue:`.
"""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

import kombu
from celery import Celery
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot_server.config import Settings
from ingot_server.errors import Failure

TASK_NAME: Final = "ingot.run_job"

QUEUE_NAME: Final = "ingot"
CONVERT_QUEUE_NAME: Final = "ingot-convert"
KEY_PREFIX: Final = "ingot:queue:"
SEND_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 1.0
SOCKET_SECONDS: Final = 3.0
SENDERS: Final = 8

# A job's lease and the sweep bring back what a dead worker held. On Redis, Celery redelivers by the
# age of a message: a short visibility timeout would run long jobs twice at once.
VISIBILITY_SECONDS: Final = 24 * 3600

# RabbitMQ takes the highest number first, Celery's Redis transport the lowest.
_STEPS: Final = (0, 5, 9)
_RANKS: Final = {
    IngestRequest.PRIORITY_HIGH: 0,
    IngestRequest.PRIORITY_NORMAL: 1,
    IngestRequest.PRIORITY_UNSPECIFIED: 1,
    IngestRequest.PRIORITY_LOW: 2,
}


def broker_address(settings: Settings) -> str:
    """The broker as kombu writes it: `unix:///path?db=1` becomes `redis+socket:///path?...`."""
    address = settings.broker_url or settings.redis_url
    parts = urlsplit(address)
    if parts.scheme != "unix":
        return address
    # redis-py calls the number of the database `db`, kombu `virtual_host`.
    query = re.sub(r"(^|&)db=", r"\1virtual_host=", parts.query)
    address = f"redis+socket://{parts.netloc}{parts.path}"
    return f"{address}?{query}" if query else address


def celery_app(settings: Settings) -> Celery:
    """The Celery application of API and workers. Its one task is registered by `worker.py`."""
    app = Celery("ingot", broker=broker_address(settings), set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE_NAME,
        task_queues=[
            kombu.Queue(name, routing_key=name, queue_arguments={"x-max-priority": _STEPS[-1]})
            for name in (QUEUE_NAME, CONVERT_QUEUE_NAME)
        ],
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        # Nobody drives workers through the broker; job records say all there is to say.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_pool_limit=SENDERS,
        broker_transport_options=_transport_options(app.conf.broker_url),
    )
    return app


class Queue:
    """Sends job ids. `app` is from `celery_app`."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        _load(app)
        self._lowest_first = not _is_amqp(app.conf.broker_url)
        # apply_async blocks, for as long as the broker does: never the event loop, nor its threads.
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="queue")

    async def send(
        self,
        job_id: str,
        priority: IngestRequest.Priority.ValueType = IngestRequest.PRIORITY_NORMAL,
        *,
        conversion: bool = False,
    ) -> None:
        """Tells the workers that a job waits; those that convert, when it is a conversion.

        Raises Failure with QUEUE_UNAVAILABLE when the broker has not taken the message within
        `SEND_SECONDS`; it may arrive all the same. Safe to repeat.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                name = CONVERT_QUEUE_NAME if conversion else QUEUE_NAME
                await loop.run_in_executor(self._senders, self._send, job_id, priority, name)
        except (KombuError, RedisError, OSError, TimeoutError) as error:
            cause = str(error) or f"no answer within {SEND_SECONDS:g} s"
            raise Failure(
                reason_pb2.REASON_QUEUE_UNAVAILABLE,
                f"The job could not be handed to the workers: {cause}",
            ) from error

    async def close(self) -> None:
        """Closes the connections. What is being sent is no longer waited for."""
        self._senders.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._app.close)

    def _send(self, job_id: str, priority: IngestRequest.Priority.ValueType, name: str) -> None:
        step = _STEPS[_RANKS[priority]]
        self._app.send_task(
            TASK_NAME,
            args=[job_id],
            queue=name,
            priority=step if self._lowest_first else _STEPS[-1] - step,
            ignore_result=True,
            # Once more for a connection that broke while it lay in the pool.
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.1},
        )


def _load(app: Celery) -> None:
    """Imports now what a message takes: the time that the first one has is the broker's."""
    app.finalize(auto=True)
    _ = app.amqp, app.events.Dispatcher, app.backend
    with app.connection_for_write() as connection:
        connection.get_transport_cls()


def _is_amqp(address: str) -> bool:
    return urlsplit(address).scheme in {"amqp", "amqps", "pyamqp", "librabbitmq"}


def _transport_options(address: str) -> dict[str, object]:
    if _is_amqp(address):
        return {"confirm_publish": True}
    return {
        "visibility_timeout": VISIBILITY_SECONDS,
        "global_keyprefix": KEY_PREFIX,
        "priority_steps": list(_STEPS),
        "queue_order_strategy": "priority",
        "socket_connect_timeout": CONNECT_SECONDS,
        # Longer than the blocking read of a worker, one second; ends what a silent broker holds up.
        "socket_timeout": SOCKET_SECONDS,
    }
