"""What `keep_release.py` has kept of a release, put back into a bucket and a Redis."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from ingot_server.library.blobs import Blobs
from ingot_server.redis import Redis

KEPT = Path(__file__).parent / "kept"
RELEASES = sorted(folder.name for folder in KEPT.iterdir() if folder.is_dir())


def kept_json(release: str, name: str) -> Any:
    return json.loads((KEPT / release / name).read_text())


async def restore_bucket(release: str, blobs: Blobs) -> None:
    """Put the kept objects into the bucket."""
    folder = KEPT / release / "bucket"
    for file in folder.rglob("*"):
        if file.is_file():
            key = file.relative_to(folder).as_posix()
            await blobs.put(key, file.read_bytes(), content_type="application/octet-stream")


async def restore_redis(release: str, redis: Redis) -> None:
    """Put the kept keys into Redis."""
    for key, kept in kept_json(release, "redis.json").items():
        name, value = redis.key(key.removeprefix("ingot:")), kept["value"]
        match kept["type"]:
            case "string":
                await redis.set(name, _bytes(value))
            case "hash":
                await redis.hset(
                    name, mapping={_bytes(field): _bytes(each) for field, each in value.items()}
                )
            case "set":
                await redis.sadd(name, *map(_bytes, value))
            case "list":
                await redis.rpush(name, *map(_bytes, value))
            case "zset":
                await redis.zadd(name, {_bytes(member): score for member, score in value.items()})


def _bytes(text: str) -> bytes:
    return base64.b64decode(text)
