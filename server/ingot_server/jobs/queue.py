"""The queues between API and workers: Celery messages that contain a job id and nothing else.

A message is a hint that a job was dispatched; the job's record decides (`records.py`). So a message
that arrives twice does no harm, and a job whose message is lost is dispatched again. Each worker
has a queue of its own, because `dispatch.lua` chooses the worker that has a slot for the job. So no
message waits behind another one. On Redis all keys of the queues begin with `ingot:queue:`, where
`ingot:` is INGOT_REDIS_PREFIX.
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
from ingot_server.config import Settings
from ingot_server.errors import Failure

TASK_NAME: Final = "ingot.run_job"

_KEYS: Final = "queue:"
SEND_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 1.0
SOCKET_SECONDS: Final = 3.0
SENDERS: Final = 8

# On Redis, Celery sends a message again when it has reached this age. Leases and the sweep recover
# the jobs of a dead worker long before.
VISIBILITY_SECONDS: Final = 24 * 3600
# RabbitMQ removes the queue of a worker that is gone for this long.
_QUEUE_LIFETIME_MS: Final = 3600 * 1000


def queue_name(worker_id: str) -> str:
    """Return the name of a worker's queue."""
    return f"ingot.{worker_id}"


def broker_address(settings: Settings) -> str:
    """Return the broker's URL for kombu: `unix:///path` becomes `redis+socket:///path`."""
    address = settings.broker_url or settings.redis_url
    parts = urlsplit(address)
    if parts.scheme != "unix":
        return address
    # The number of the database is `db` in redis-py and `virtual_host` in kombu.
    query = re.sub(r"(^|&)db=", r"\1virtual_host=", parts.query)
    address = f"redis+socket://{parts.netloc}{parts.path}"
    return f"{address}?{query}" if query else address


def celery_app(settings: Settings, worker_id: str = "") -> Celery:
    """Return the Celery application of API and workers.

    `worker_process.py` registers its only task. A worker receives what is sent to its
    `worker_id`; a process without one only sends.
    """
    app = Celery("ingot", broker=broker_address(settings), set_as_current=False)
    app.conf.update(
        task_default_queue=queue_name(worker_id),
        task_queues=[_queue(worker_id)] if worker_id else [],
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        # At once: a message that stays unacknowledged while its job runs would end the connection
        # to RabbitMQ (`consumer_timeout`). Leases recover the jobs of a dead worker.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        # Workers are not controlled through the broker, and job records make events unnecessary.
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A Redis that fails over or is full refuses commands; it will accept them again.
        broker_channel_error_retry=True,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_pool_limit=SENDERS,
        broker_transport_options=_transport_options(app.conf.broker_url, settings),
    )
    return app


def check_broker(settings: Settings) -> None:
    """Connect to the broker; this blocks. Raises Failure QUEUE_UNAVAILABLE."""
    app = celery_app(settings)
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0)
    except (KombuError, RedisError, OSError) as error:
        raise Failure(
            reason_pb2.REASON_QUEUE_UNAVAILABLE, f"The broker cannot be reached: {error}"
        ) from error
    finally:
        app.close()


class Queue:
    """The sender of job ids. `app` is from `celery_app`.

    A worker declares its queue before it is announced. With `declares`, each message declares it
    again, so that it outlives a broker that lost it, and a Redis other than that of the job records
    removes the queue of a worker that is gone, as dispatch.lua does there. On Redis that takes ten
    commands more for each message.
    """

    def __init__(self, app: Celery, *, declares: bool = False) -> None:
        self._app = app
        self._declares = declares
        _preload(app)
        # Sending blocks as long as the broker does, so it has its own threads.
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="queue")

    async def send(self, job_id: str, worker_id: str) -> None:
        """Send the id of a job to the worker that is to run it.

        Raises Failure with QUEUE_UNAVAILABLE if the broker has not accepted the message within
        `SEND_SECONDS`; the message may still arrive. Safe to repeat.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await loop.run_in_executor(self._senders, self._send, job_id, worker_id)
        except (KombuError, RedisError, OSError, TimeoutError) as error:
            cause = str(error) or f"no response within {SEND_SECONDS:g} s"
            raise Failure(
                reason_pb2.REASON_QUEUE_UNAVAILABLE,
                f"The broker did not accept the job: {cause}",
            ) from error

    async def close(self) -> None:
        """Close the connections without waiting for messages that are being sent."""
        self._senders.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._app.close)

    def _send(self, job_id: str, worker_id: str) -> None:
        name = queue_name(worker_id)
        if name not in self._app.amqp.queues:
            self._app.amqp.queues.add(_queue(worker_id))
        self._app.send_task(
            TASK_NAME,
            args=[job_id],
            queue=name,
            ignore_result=True,
            declare=None if self._declares else [],
            # One retry, because a connection may have broken while it was idle in the pool.
            retry=True,
            retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0.1},
        )


def _queue(worker_id: str) -> kombu.Queue:
    name = queue_name(worker_id)
    return kombu.Queue(name, routing_key=name, queue_arguments={"x-expires": _QUEUE_LIFETIME_MS})


def _preload(app: Celery) -> None:
    """Import what sending needs, so that the first message does not spend its time on imports."""
    app.finalize(auto=True)
    _ = app.amqp, app.events.Dispatcher, app.backend
    with app.connection_for_write() as connection:
        connection.get_transport_cls()


def _is_amqp(address: str) -> bool:
    return urlsplit(address).scheme in {"amqp", "amqps", "pyamqp", "librabbitmq"}


def _transport_options(address: str, settings: Settings) -> dict[str, object]:
    if _is_amqp(address):
        return {"confirm_publish": True}
    return {
        "visibility_timeout": VISIBILITY_SECONDS,
        "global_keyprefix": settings.redis_prefix + _KEYS,
        "socket_connect_timeout": CONNECT_SECONDS,
        # Longer than the blocking read of a worker, which takes one second.
        "socket_timeout": SOCKET_SECONDS,
    }
