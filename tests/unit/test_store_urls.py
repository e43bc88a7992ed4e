"""The URLs of Redis and of the broker are checked when the settings are read."""

from __future__ import annotations

import pytest

from ingot_server.config import Settings
from ingot_server.redis import connect
from ingot_server.setting_values import SettingError


@pytest.mark.parametrize(
    "url",
    [
        "redis://h:6379/0",
        "redis://h",
        "rediss://user:pw@h:6380/3?ssl_ca_certs=/etc/ca.pem",
        "redis://[::1]:6379/0",
        "unix:///run/redis.sock?db=2",
        "unix://:pw@/run/redis.sock",
    ],
)
def test_every_form_of_one_server_is_accepted(url: str) -> None:
    environment = {"INGOT_REDIS_URL": url, "INGOT_BROKER_URL": url}
    assert Settings.from_environment(environment) == Settings(redis_url=url, broker_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "amqp://h",
        "amqps://user:pw@h:5671//",
        "amqp://user:pw@one//;amqp://user:pw@two//",
    ],
)
def test_the_broker_may_be_rabbitmq(url: str) -> None:
    assert Settings.from_environment({"INGOT_BROKER_URL": url}).broker_url == url


@pytest.mark.parametrize("name", ["INGOT_REDIS_URL", "INGOT_BROKER_URL"])
@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("sentinel://h:26379/0", "Redis Sentinel"),
        ("redis+sentinel://h:26379/mymaster/0", "Redis Sentinel"),
        ("redis-sentinel://h:26379/0", "Redis Sentinel"),
        ("sentinel://a:26379;sentinel://b:26379", "Redis Sentinel"),
        ("redis+cluster://h:7000", "Redis Cluster"),
        ("rediss+cluster://h:7000", "Redis Cluster"),
        ("redis://a:7000,b:7000/0", "Redis Sentinel and Redis Cluster"),
    ],
)
def test_sentinel_and_cluster_are_refused_by_name(name: str, url: str, named: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: .*{named}.*redis://HOST:PORT/0"):
        Settings.from_environment({name: url})


@pytest.mark.parametrize(
    ("name", "url", "what"),
    [
        ("INGOT_REDIS_URL", "", "is not redis://HOST:PORT/0"),
        ("INGOT_REDIS_URL", "localhost:6379", "is not redis://HOST:PORT/0"),
        ("INGOT_REDIS_URL", "http://h:6379", "is not redis://HOST:PORT/0"),
        ("INGOT_REDIS_URL", "amqp://h", "is not redis://HOST:PORT/0"),
        ("INGOT_REDIS_URL", "redis://:6379/0", "has no host"),
        ("INGOT_REDIS_URL", "redis://h:port/0", "has no port"),
        ("INGOT_REDIS_URL", "redis://h:99999/0", "has no port"),
        ("INGOT_REDIS_URL", "redis://h/zero", "number of a database"),
        ("INGOT_REDIS_URL", "redis://[h/0", "is not a URL"),
        ("INGOT_REDIS_URL", "unix://run/redis.sock", "three slashes"),
        ("INGOT_REDIS_URL", "unix://", "three slashes"),
        ("INGOT_BROKER_URL", "memory://", "is not amqp://"),
        ("INGOT_BROKER_URL", "sqs://key:secret@", "is not amqp://"),
        ("INGOT_BROKER_URL", "amqp://", "has no host"),
        ("INGOT_BROKER_URL", "amqp://one;amqp://two:port", "has no port"),
    ],
)
def test_a_url_that_cannot_work_is_named(name: str, url: str, what: str) -> None:
    with pytest.raises(SettingError, match=f"^{name}: .*{what}"):
        Settings.from_environment({name: url})


@pytest.mark.parametrize("options", ["?no_such_option=1", "?db=zero"])
def test_an_option_that_cannot_work_is_named_before_the_first_command(options: str) -> None:
    settings = Settings.from_environment({"INGOT_REDIS_URL": f"redis://h:6379{options}"})
    with pytest.raises(SettingError, match=r"INGOT_REDIS_URL: .* has an option"):
        connect(settings)


@pytest.mark.parametrize("password", ["hunter2", "hun/ter2@", "#?hunter2"])
def test_the_password_of_a_refused_url_does_not_show(password: str) -> None:
    with pytest.raises(SettingError) as raised:
        Settings.from_environment({"INGOT_REDIS_URL": f"sentinel://user:{password}@h:26379"})
    assert "ter2" not in str(raised.value)
