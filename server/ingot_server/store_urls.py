"""The URLs of Redis and of the broker: what one may look like, checked before anything connects."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

_REDIS_FORMS: Final = "redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH"
_REDIS: Final = frozenset({"redis", "rediss", "unix"})
_AMQP: Final = frozenset({"amqp", "amqps", "pyamqp"})
# Several nodes are one URL for redis-py's and kombu's clients of Sentinel and Cluster.
_SEVERAL: Final = re.compile("[,;]")


class StoreUrlError(ValueError):
    """A URL that cannot be used; the message says why, without the URL's password."""


def without_password(url: str) -> str:
    """Return a URL for people to read."""
    # To the last "@": a password that is not escaped may contain any character.
    return re.sub(r"//(?!/).*@", "//***@", url)


def check_redis_url(url: str) -> None:
    """Check the URL of Redis or Valkey. Raises StoreUrlError."""
    _check(url, _split(url), _REDIS, _REDIS_FORMS)


def check_broker_url(url: str) -> None:
    """Check the URL of the broker, which may be empty. Raises StoreUrlError."""
    if not url:
        return
    # RabbitMQ's nodes are listed as several URLs; kombu goes to the next one if one is down.
    nodes = url.split(";")
    if all(urlsplit(node).scheme in _AMQP for node in nodes):
        for node in nodes:
            _check_host(node, _split(node))
        return
    _check(url, _split(url), _REDIS, f"amqp://USER:PASSWORD@HOST:PORT/VHOST, {_REDIS_FORMS}")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise StoreUrlError(f"{without_password(url)!r} is not a URL: {error}.") from None


def _check(url: str, parts: SplitResult, schemes: frozenset[str], forms: str) -> None:
    _refuse_sentinel_and_cluster(url, parts)
    if parts.scheme not in schemes:
        raise StoreUrlError(f"{without_password(url)!r} is not {forms}.")
    if parts.scheme == "unix":
        if parts.path in ("", "/") or parts.hostname:
            raise StoreUrlError(
                f"{without_password(url)!r} names no socket. Write unix:///PATH with three slashes."
            )
        return
    _check_host(url, parts)
    if not re.fullmatch(r"/?|/\d+", parts.path):
        raise StoreUrlError(
            f"{without_password(url)!r} has {parts.path!r} where the number of a database belongs, "
            "such as /0."
        )


def _refuse_sentinel_and_cluster(url: str, parts: SplitResult) -> None:
    kind = next((word for word in ("sentinel", "cluster") if word in parts.scheme), "")
    if not kind and not _SEVERAL.search(parts.netloc):
        return
    what = {
        "sentinel": "is a URL of Redis Sentinel",
        "cluster": "is a URL of Redis Cluster",
        "": "names several servers, as URLs of Redis Sentinel and Redis Cluster do",
    }[kind]
    raise StoreUrlError(
        f"{without_password(url)!r} {what}, which Ingot does not support. Name one server, whose "
        "address stays with the primary when it fails over: redis://HOST:PORT/0."
    )


def _check_host(url: str, parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        missing = "port" if parts.hostname else "host"
        raise StoreUrlError(f"{without_password(url)!r} has no {missing} that can be used.")
