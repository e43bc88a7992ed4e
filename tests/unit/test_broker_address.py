"""The broker's address in settings and for kombu."""

from __future__ import annotations

import pytest

from ingot_server.config import Settings
from ingot_server.jobs.queue import broker_address, celery_app


@pytest.mark.parametrize(
    ("redis_url", "broker_url", "address"),
    [
        ("redis://h:6379/0", "", "redis://h:6379/0"),
        ("redis://h:6379/0", "amqp://user:pw@mq//", "amqp://user:pw@mq//"),
        ("rediss://:pw@h/1", "", "rediss://:pw@h/1"),
        ("unix:///run/redis.sock", "", "redis+socket:///run/redis.sock"),
        ("unix:///run/r.sock?db=2", "", "redis+socket:///run/r.sock?virtual_host=2"),
        ("unix://:pw@/run/r.sock", "", "redis+socket://:pw@/run/r.sock"),
    ],
)
def test_broker_address(redis_url: str, broker_url: str, address: str) -> None:
    assert broker_address(Settings(redis_url=redis_url, broker_url=broker_url)) == address


@pytest.mark.parametrize("broker_url", ["redis://h:6379/0", "amqp://mq//"])
def test_a_message_is_acknowledged_when_its_job_begins(broker_url: str) -> None:
    conf = celery_app(Settings(broker_url=broker_url)).conf
    assert not conf.task_acks_late
    assert conf.worker_prefetch_multiplier == 1
    assert conf.broker_transport_options.get("visibility_timeout", 86400) == 86400
