"""gc applies the rules of retention: it lists first, removes what it listed, and breaks no job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.system_service_pb2 import RetentionStatus
from ingot_server import garbage_collection
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.deletions import Deletions
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.retention_report import RetentionReport
from ingot_server.redis import connect
from ingot_server.retention_rules import RetentionRules
from tests.integration.catalog.running_catalog import media_id, opened
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

NOW = datetime.now(UTC)
BYTES = 1000
OLD = """
[[rule]]
name = "old"
max_age = "7d"
"""


@pytest.fixture
async def catalog(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    async with opened(blobs, settings) as catalog:
        yield catalog


@pytest.fixture
def ruled(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a file of rules, which `write_rules` writes."""
    return settings.replace(retention_file=str(tmp_path / "retention.toml"))


def write_rules(settings: Settings, text: str) -> None:
    Path(settings.retention_file).write_text(text)


async def store(
    catalog: Catalog,
    blobs: Blobs,
    name: str,
    *,
    days: float,
    published: float | None = None,
    labels: Mapping[str, str] | None = None,
    pinned: bool = False,
    parent: str = "",
) -> Manifest:
    """Store a media item of `BYTES` bytes that is `days` old."""
    media = Media(
        id=media_id(name), title=name, labels=labels or {}, pinned=pinned, uploader=name[0]
    )
    if parent:
        media.derived_from_media_id = media_id(parent)
    media.source.name = "http"
    key = f"media/{media.id}/1.mp4"
    await blobs.put(key, b"x" * BYTES, content_type="video/mp4")
    media.blob.url, media.blob.size_bytes = blobs.url(key), BYTES
    media.create_time.FromDatetime(NOW - timedelta(days=days))
    if published is not None:
        media.publish_time.FromDatetime(NOW - timedelta(days=published))
    return await catalog.commit(Manifest(media=media))


async def gc(settings: Settings, *, delete: bool = False) -> list[str]:
    lines: list[str] = []
    await garbage_collection.collect_garbage(settings, delete=delete, say=lines.append)
    return lines


async def stored(catalog: Catalog, *names: str) -> set[str]:
    found = await catalog.load_many([media_id(name) for name in names])
    return {manifest.media.title for manifest in found}


async def report(settings: Settings) -> RetentionStatus | None:
    async with connect(settings) as redis:
        return await RetentionReport(redis).read()


RULES = [
    (OLD, {"a3": "old, max_age", "b4": "old, max_age"}),
    ('[[rule]]\nname = "disk"\nmax_bytes = "4000"\n', {"b4": "disk, max_bytes"}),
    (
        '[[rule]]\nname = "tv"\nmatch.labels = { show = "x" }\nkeep_latest = 1\n',
        {"a1": "tv, keep_latest"},
    ),
    (
        '[[rule]]\nname = "each"\nkeep_latest = 1\nper = "uploader"\n',
        {"a1": "each, keep_latest", "a3": "each, keep_latest", "b4": "each, keep_latest"},
    ),
    (
        '[[rule]]\nname = "made"\nmatch = { derived = true, source = "http" }\nmax_age = "1h"\n',
        {"b4": "made, max_age"},
    ),
]


@pytest.mark.parametrize(("rules", "expected"), RULES)
async def test_gc_lists_what_is_past_a_rule_and_removes_only_when_told(
    blobs: Blobs, catalog: Catalog, ruled: Settings, rules: str, expected: dict[str, str]
) -> None:
    await store(catalog, blobs, "a1", days=1, published=30, labels={"show": "x"})
    await store(catalog, blobs, "a2", days=2, published=20, labels={"show": "x"})
    await store(catalog, blobs, "a3", days=8, published=40)
    await store(catalog, blobs, "b4", days=9, parent="a3")
    await store(catalog, blobs, "b5", days=90, pinned=True)
    names = {"a1", "a2", "a3", "b4", "b5"}
    write_rules(ruled, rules)
    if "per =" in rules:
        await store(catalog, blobs, "b6", days=0)

    listed = await gc(ruled)

    keys = {f"media/{media_id(name)}/media.json": why for name, why in expected.items()}
    found = [line.partition("media item past a rule ")[2] for line in listed[:-1]]
    assert {line.split(",")[0]: line.split(": ")[-1] for line in found} == keys
    assert f"; {BYTES * len(expected)} bytes." in listed[-1]
    assert await stored(catalog, *names) == names
    status = await report(ruled)
    assert status is not None
    assert [rule.due.media_items for rule in status.rules] == [len(expected)]
    assert not status.HasField("run_time")

    assert (await gc(ruled, delete=True))[:-1] == listed[:-1]

    assert await stored(catalog, *names) == names - expected.keys()
    for name in expected:
        assert await blobs.stat(f"media/{media_id(name)}/1.mp4") is None
    status = await report(ruled)
    assert status is not None
    (rule,) = status.rules
    assert (rule.removed.media_items, rule.removed.size_bytes) == (
        len(expected),
        BYTES * len(expected),
    )
    assert not rule.due.media_items
    assert status.HasField("run_time")
    assert await gc(ruled, delete=True) == ["There is nothing to remove."]


async def test_the_oldest_go_until_the_disk_of_the_bucket_has_enough_space(
    blobs: Blobs, catalog: Catalog, ruled: Settings, tmp_path: Path
) -> None:
    for number in range(3):
        await store(catalog, blobs, f"a{number}", days=number)
    ruled = ruled.replace(bucket_dir=str(tmp_path / "data"))
    Path(ruled.bucket_dir).mkdir()
    write_rules(ruled, '[[rule]]\nname = "free"\nmin_free = "1000000TiB"\n')
    listed = await gc(ruled)
    assert [line.rpartition(": ")[2] for line in listed[:-1]] == ["free, min_free"] * 3

    write_rules(ruled, '[[rule]]\nname = "free"\nmin_free = "1"\n')
    assert await gc(ruled) == ["There is nothing to remove."]


async def test_what_redis_lists_and_the_bucket_does_not_have_is_none_of_the_latest(
    blobs: Blobs, catalog: Catalog, ruled: Settings
) -> None:
    gone = await store(catalog, blobs, "gone", days=1)
    await store(catalog, blobs, "here", days=2)
    await catalog.delete(gone.media.id)
    # Another process has read it before, and is late.
    await catalog._index.add(gone.media)
    write_rules(ruled, '[[rule]]\nname = "disk"\nmax_bytes = "1000"\n')

    assert await gc(ruled, delete=True) == ["There is nothing to remove."]

    assert await stored(catalog, "here") == {"here"}


async def test_a_media_item_that_is_replaced_or_pinned_before_its_removal_stays(
    blobs: Blobs, catalog: Catalog, ruled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("replaced", "pinned", "neither"):
        await store(catalog, blobs, name, days=8)
    write_rules(ruled, OLD)
    delete = Deletions.delete_version

    async def deleted_later(deletions: Deletions, name: str, etag: str) -> bool:
        manifest = await catalog.read_stored(name)
        assert manifest is not None
        if manifest.media.title != "neither":
            manifest.media.pinned = manifest.media.title == "pinned"
            manifest.media.description = "changed"
            assert await catalog.replace(manifest) is not None
        return await delete(deletions, name, etag)

    monkeypatch.setattr(Deletions, "delete_version", deleted_later)

    lines = await gc(ruled, delete=True)

    assert [media_id("neither") in line for line in lines[:-1]] == [True]
    assert await stored(catalog, "replaced", "pinned", "neither") == {"replaced", "pinned"}
    status = await report(ruled)
    assert status is not None
    assert status.rules[0].removed.media_items == 1


async def test_what_a_job_makes_or_converts_stays_until_the_job_has_ended(
    blobs: Blobs, catalog: Catalog, ruled: Settings, records: Records
) -> None:
    for name in ("parent", "made", "free"):
        await store(catalog, blobs, name, days=8)
    write_rules(ruled, OLD)
    made = Media(id=media_id("made"), derived_from_media_id=media_id("parent"))
    job = (await records.create(Job(kind=job_pb2.JOB_KIND_CONVERT, media=made))).job

    await gc(ruled, delete=True)
    assert await stored(catalog, "parent", "made", "free") == {"parent", "made"}

    await records.cancel(job.id)
    await gc(ruled, delete=True)
    assert await stored(catalog, "parent", "made") == set()


async def test_a_worker_applies_the_rules_and_counts_what_is_due(
    blobs: Blobs, catalog: Catalog, ruled: Settings
) -> None:
    await store(catalog, blobs, "old", days=8)
    write_rules(ruled, OLD)
    often = ruled.replace(gc_interval=timedelta(milliseconds=50))
    async with connect(ruled) as redis, asyncio.timeout(TIMEOUT_SECONDS):
        # Another worker has collected lately, so this one only counts.
        await redis.set(redis.key("gc"), b"")
        collecting = asyncio.create_task(
            garbage_collection.keep_collecting(redis, catalog, blobs, often, RetentionRules(ruled))
        )
        while (status := await report(ruled)) is None:  # noqa: ASYNC110 - only Redis says
            await asyncio.sleep(0.05)
        assert [rule.due.media_items for rule in status.rules] == [1]
        assert await stored(catalog, "old") == {"old"}

        await redis.delete(redis.key("gc"))
        while not status.HasField("run_time"):
            status = await report(ruled)
            assert status is not None
            await asyncio.sleep(0.05)
        assert await stored(catalog, "old") == set()
        await cancel_and_wait(collecting)
