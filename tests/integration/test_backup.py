"""Restore drills: exports and imports bring every media item back, whatever was lost."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from ingot_server.backup.choice import Choice
from ingot_server.backup.copier import Wishes
from ingot_server.backup.runs import export_media, import_media
from ingot_server.backup.tally import Tally
from ingot_server.config import Settings
from ingot_server.library import server_side_copy
from ingot_server.library.blobs import Blobs
from ingot_server.library.damage import report_damage
from tests.bucket_proxy import bucket_behind_proxy
from tests.harness import running_harness
from tests.integration.library_of_media import (
    ALIAS,
    FIRST,
    LARGE,
    SECOND,
    THIRD,
    Library,
    opened_library,
)
from tests.origin import Origin, Page
from tests.servers import seaweedfs
from tests.waiting import TIMEOUT_SECONDS

PLAIN = Wishes()
COMMAND = Path(sys.executable).with_name("ingot-server")


@pytest.fixture
async def library(settings: Settings) -> AsyncIterator[Library]:
    async with opened_library(settings) as opened:
        await opened.fill()
        yield opened


@pytest.fixture
def empty(settings: Settings) -> Settings:
    """Another installation, which has nothing yet: in a folder of the bucket, with a Redis."""
    return settings.replace(s3_prefix="restored", redis_prefix="restored:")


class Copied(NamedTuple):
    """What a command counted, and the lines that it wrote."""

    tally: Tally
    said: list[str]


async def exported(settings: Settings, address: object, wishes: Wishes = PLAIN) -> Copied:
    said: list[str] = []
    output = io.StringIO()
    return Copied(await export_media(settings, str(address), wishes, said.append, output), said)


async def imported(settings: Settings, address: object, wishes: Wishes = PLAIN) -> Copied:
    said: list[str] = []
    output = io.StringIO()
    return Copied(await import_media(settings, str(address), wishes, said.append, output), said)


def counts(copied: Copied) -> tuple[int, int, int]:
    """How many media items were copied, were there already, and could not be copied."""
    return copied.tally.copied, copied.tally.unchanged, copied.tally.problems


async def test_an_export_in_a_directory_brings_everything_back(
    library: Library, empty: Settings, tmp_path: Path
) -> None:
    before = await library.everything()
    for key in ("subscriptions/a", "feeds/b"):
        await library.blobs.put(key, key.encode(), content_type="application/x-protobuf")
    assert counts(await exported(library.settings, tmp_path)) == (3, 0, 0)
    again = await exported(library.settings, tmp_path, Wishes(verify=True))
    assert (*counts(again), again.tally.size_bytes) == (0, 3, 0, 0)

    assert counts(await imported(empty, tmp_path)) == (3, 0, 0)
    async with opened_library(empty) as restored:
        assert await restored.everything() == before
        assert await restored.catalog.alias_of(ALIAS) == FIRST
        for key in ("subscriptions/a", "feeds/b"):
            found = await restored.blobs.get(key)
            assert found is not None
            assert found[0] == key.encode()
            await restored.blobs.put(key, b"since", content_type="application/x-protobuf")
    again = await imported(empty, tmp_path)
    assert (*counts(again), again.tally.size_bytes) == (0, 3, 0, 0)
    async with opened_library(empty) as restored:
        for key in ("subscriptions/a", "feeds/b"):
            kept = await restored.blobs.get(key)
            assert kept is not None
            assert kept[0] == b"since"


async def test_media_moves_between_servers(
    library: Library, empty: Settings, tmp_path: Path
) -> None:
    before = await library.everything()
    # Of the same name, at another server, with and without a folder.
    address = f"s3://{library.settings.s3_bucket}"
    with seaweedfs(tmp_path / "s3") as far:
        file = tmp_path / "buckets.toml"
        file.write_text(
            f'[s3.{library.settings.s3_bucket}]\nendpoint = "{far["s3_endpoint"]}"\n'
            f'access_key = "{far["s3_access_key"]}"\nsecret_key = "{far["s3_secret_key"]}"\n'
        )
        here = library.settings.replace(buckets_file=str(file))
        assert counts(await exported(here, address)) == (3, 0, 0)
        of_ann = Wishes(choice=Choice(owner="ann"))
        assert counts(await exported(here, f"{address}/old", of_ann)) == (1, 0, 0)
        assert counts(await exported(here, address)) == (0, 3, 0)
        back = await imported(empty.replace(buckets_file=str(file)), address)
    assert counts(back) == (3, 0, 0)
    async with opened_library(empty) as restored:
        assert await restored.everything() == before


async def test_a_server_copies_within_itself_what_was_verified(
    library: Library, empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_side_copy, "_PART_BYTES", 5 << 20)
    before = await library.everything()
    address = f"s3://{library.settings.s3_bucket}/{empty.s3_prefix}"
    async with bucket_behind_proxy(library.settings) as (proxy, through):
        # Ingot uploads with signed URLs.
        proxy.refuses = lambda method, path: (
            method == "PUT" and "/job-1." in path and "X-Amz-Signature" in path
        )
        assert counts(await exported(through, address)) == (3, 0, 0)
    async with opened_library(empty) as copied:
        for name, (_, files) in before.items():
            manifest = await copied.catalog.get(name)
            assert manifest is not None
            assert await copied.files(manifest.media) == files


@pytest.mark.any_stores
async def test_a_killed_export_goes_on_where_it_was(library: Library, tmp_path: Path) -> None:
    *done, last = sorted((FIRST, SECOND, THIRD))
    folder = tmp_path / "export" / "media"
    async with asyncio.timeout(TIMEOUT_SECONDS), bucket_behind_proxy(library.settings) as found:
        proxy, through = found
        proxy.stall(lambda method, path: method == "GET" and f"{last}/job-1.mp4" in path)
        process = await start(through, "export", tmp_path / "export", "--transfers=1")
        await proxy.held()
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        proxy.release()
        assert {each.parent.name for each in folder.glob("*/media.json")} == set(done)
        assert not (folder / last / "job-1.mp4").exists()

        # What is there already is not read again.
        proxy.stalls = lambda _method, _path: False
        proxy.refuses = lambda method, path: (
            method == "GET" and "/job-1." in path and last not in path
        )
        assert counts(await exported(through, tmp_path / "export")) == (1, 2, 0)
    names = {each.name for each in (folder / last).iterdir()}
    assert names == {"job-1.mp4", "job-1.jpg", "media.json"}


@pytest.mark.any_stores
async def test_damage_of_an_export_is_found_and_repaired(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "media" / FIRST / "job-1.mp4"
    before = await library.everything()
    await exported(library.settings, tmp_path)
    file.write_bytes(LARGE[:-1] + b"?")
    assert await library.catalog.delete(FIRST)
    refused = await imported(library.settings, tmp_path)
    assert counts(refused) == (0, 2, 1)
    assert f"{FIRST}: s3://export/media/{FIRST}/job-1.mp4 was not copied: its " in refused.said[0]
    assert await library.catalog.get(FIRST) is None

    file.write_bytes(LARGE)
    assert counts(await imported(library.settings, tmp_path)) == (1, 2, 0)
    assert await library.everything() == before
    file.write_bytes(LARGE[:-1] + b"?")
    verified = await exported(library.settings, tmp_path, Wishes(verify=True))
    assert counts(verified) == (1, 2, 0)
    assert verified.said[0].startswith(f"s3://export/media/{FIRST}/job-1.mp4 is damaged: its SHA")
    assert file.read_bytes() == LARGE


@pytest.mark.any_stores
async def test_damage_of_the_bucket_is_not_exported_and_an_import_repairs_it(
    library: Library, tmp_path: Path
) -> None:
    before = await library.everything()
    await exported(library.settings, tmp_path / "good")
    key = f"media/{SECOND}/job-1.mp4"
    await library.blobs.put(key, b"?" * 594, content_type="video/mp4")
    process = await start(library.settings, "export", tmp_path / "bad")
    output, errors = await process.communicate()
    assert process.returncode == 1, errors
    assert f"{library.blobs.url(key)} was not copied: its SHA-256 is" in output.decode()
    copied = {each.parent.name for each in (tmp_path / "bad").glob("media/*/media.json")}
    assert copied == {FIRST, THIRD}

    manifest = await library.catalog.read_stored(SECOND)
    assert manifest is not None
    await report_damage(library.catalog, manifest.media, manifest.media.blob.url, "It was cut.")
    assert await library.catalog.get(SECOND) is None
    assert counts(await imported(library.settings, tmp_path / "good")) == (1, 2, 0)
    assert await library.everything() == before


@pytest.mark.any_stores
async def test_an_import_keeps_what_was_changed_since_and_an_export_follows(
    library: Library, tmp_path: Path
) -> None:
    await exported(library.settings, tmp_path)
    # Times of objects count in whole seconds on some servers.
    for path in tmp_path.rglob("media.json"):
        os.utime(path, times=(path.stat().st_mtime - 60,) * 2)
    manifest = await library.catalog.read_stored(THIRD)
    assert manifest is not None
    manifest.media.labels["later"] = "yes"
    assert await library.catalog.replace(manifest) is not None
    before = await library.everything()
    assert counts(await imported(library.settings, tmp_path)) == (0, 3, 0)
    assert await library.everything() == before

    planned = await exported(library.settings, tmp_path, Wishes(dry_run=True))
    assert planned.said == ["To copy: 1 media items. Already there: 2."]
    assert counts(await exported(library.settings, tmp_path)) == (1, 2, 0)
    assert '"later": "yes"' in (tmp_path / "media" / THIRD / "media.json").read_text()


@pytest.mark.any_stores
async def test_a_file_that_gc_may_take_is_copied_again(
    library: Library, empty: Settings, tmp_path: Path
) -> None:
    await exported(library.settings, tmp_path)
    left = Blobs(empty)
    await left.put(f"media/{THIRD}/job-1.mp4", b"?" * 495, content_type="video/mp4")
    await left.close()
    # Of the right size, but named by no manifest for longer than that.
    assert counts(await imported(empty.replace(gc_grace=timedelta(0)), tmp_path)) == (3, 0, 0)
    async with opened_library(empty) as restored:
        assert (await restored.everything())[THIRD][1]["job-1.mp4"] == b"third" * 99


@pytest.mark.any_stores
async def test_after_the_loss_of_redis_a_new_server_answers_everything(
    settings: Settings, origin: Origin, clip: bytes
) -> None:
    url = origin.serve("/clip.mp4", Page(clip))
    async with asyncio.timeout(TIMEOUT_SECONDS), running_harness(settings) as harness:
        stored = (await harness.ingest(url, labels={"a": "b"})).media
        await harness.redis.flushall()
    origin.pages.clear()
    async with asyncio.timeout(TIMEOUT_SECONDS), running_harness(settings) as harness:
        assert await harness.get(url=url) == await harness.get(media_id=stored.id)
        assert (await harness.get(media_id=stored.id)).labels == {"a": "b"}
        assert await harness.download(url=stored.blob.url) == clip
        again = await harness.ask(url)
        assert (again.cached, again.media.id) == (True, stored.id)


async def start(
    settings: Settings, command: str, address: Path, *options: str
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        COMMAND,
        command,
        address,
        *options,
        env={**os.environ, **settings.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
