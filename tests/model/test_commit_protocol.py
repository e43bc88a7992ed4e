"""Whatever order the requests of two jobs, a deletion and `gc` arrive in, nothing is torn.

The code of the commit, the deletion and `gc` is the real one; the bucket is a model (bucket.py),
and the cache is one that forgets everything, as after the loss of Redis. Each test tries every
order of the requests, with a number of faults at every place where they can be.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, cast

import pytest

from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.outcomes import LeaseLost
from ingot_server.library import catalog, garbage, manifest_objects
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.garbage import GarbageCollector
from ingot_server.library.manifest import files_of, parse
from ingot_server.library.manifest_objects import ManifestObjects, manifest_key
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.pipeline import commit as commit_module
from ingot_server.pipeline import landing
from ingot_server.pipeline.attempt import Attempt, blob_stem
from ingot_server.pipeline.commit import commit
from ingot_server.pipeline.landing import Landing
from ingot_server.probe.prober import Prober
from ingot_server.redis import Redis
from ingot_server.transfer.staged import StagedUploads
from tests.model.bucket import ACTOR, BEGIN, SIGNATURE, Faults, ModelBucket, Signature
from tests.model.interleavings import Step, Violation, explore

ID = "a" * 52
KEY = manifest_key(ID)
FORMER = f"media/{ID}/former-1.mp4"
GRACE = Settings(gc_grace=timedelta(seconds=50))
ATTEMPTS = 2
MOST_STATES = 60_000


class ForgetfulCache:
    """Stands for a Redis that loses everything at once."""

    def __init__(self, *_: object) -> None:
        pass

    def get_from_memory(self, _media_id: str) -> None:
        return None

    async def get(self, _media_id: str) -> None:
        return None

    async def get_alias(self, _alias_id: str) -> None:
        return None

    async def mark(self, _media_id: str) -> bytes:
        return b"mark"

    async def fill(self, *_: object) -> None:
        pass

    settle = forget_failure = add = remove = fill


class Clock(datetime):
    """The date: it moves on with every deletion, so no tombstone equals another one."""

    deletions = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return BEGIN + timedelta(seconds=cls.deletions)


@pytest.fixture(autouse=True)
def _no_redis_and_no_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(catalog, "Cache", ForgetfulCache)
    monkeypatch.setattr(catalog, "MediaIndex", ForgetfulCache)
    for module in (catalog, manifest_objects, garbage, landing):
        monkeypatch.setattr(module, "datetime", Clock)
    monkeypatch.setattr(garbage, "FIRST_CHARACTERS", ID[0])
    yield
    Clock.deletions = 0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.mp4"
    path.write_bytes(b"media")
    return path


class ModelLease:
    """A lease that the world ends when it likes."""

    def __init__(self, world: CommitWorld, job: Job) -> None:
        self.job = job
        self.run = job.attempt
        self.is_held = True
        self.signature = Signature()
        self._world = world

    async def update(self, change: Callable[[Job], None]) -> None:
        change(self.job)

    async def prove(self, change: Callable[[Job], None] = lambda _: None) -> None:
        change(self.job)
        await self._world.bucket.ask("prove the lease", lambda: None, Faults.NONE)
        self.time_left()

    def time_left(self) -> timedelta:
        if not self.is_held:
            raise LeaseLost(self.job.id)
        return timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What happens at the same time to one media item."""

    jobs: int = 0
    """Jobs that ingest it, each with ATTEMPTS attempts. Over `former` they replace its file."""
    former: Literal["absent", "stored", "deleted"] = "absent"
    """What there is before; if it was deleted, its tombstone is old enough to be removed."""
    deletes: bool = False
    confirms: bool = False
    """A job asks the source, which still has what is stored."""
    collects: bool = False
    faults: int


class CommitWorld:
    """The processes of a scenario, and their bucket."""

    def __init__(self, file: Path, scenario: Scenario) -> None:
        Clock.deletions = 0
        self.bucket = ModelBucket(scenario.faults, written=self._written, now=Clock.now)
        self._scenario = scenario
        self._file = file
        self._tasks: list[asyncio.Task[None]] = []
        self._leases: dict[str, ModelLease] = {}
        # job id -> the URL of the file that it succeeded with
        self._results: dict[str, str] = {}
        # jobs that had ended when the media item was deleted
        self._over: frozenset[str] = frozenset()
        self._ended = False

    async def run(self) -> None:
        ACTOR.set("world")
        scenario = self._scenario
        await self._prepare()
        for number in range(1, scenario.jobs + 1):
            self._start(f"job{number}", 1)
        if scenario.deletes:
            self._spawn("deletion", self._delete())
        if scenario.confirms:
            self._spawn("confirmation", self._confirm())
        if scenario.collects:
            self._spawn("gc", self._collect())
        while running := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(running)
        for task in self._tasks:
            task.result()
        if self.bucket.late:
            await self.bucket.ask("a day passes", lambda: None, Faults.NONE)
        self._check_results()
        for lease in self._leases.values():
            lease.signature.is_valid = False
        self.bucket.at_once = True
        await self._check_garbage()
        self.bucket.end()
        self.check()

    def steps(self) -> Sequence[Step]:
        steps = self.bucket.steps()
        if self.bucket.faults:
            steps.extend(
                Step(f"the lease of {name} ends", partial(self._end_lease, name))
                for name, lease in self._leases.items()
                if lease.is_held
            )
        return steps

    def state(self) -> Hashable:
        leases = tuple(
            (name, lease.is_held, lease.signature.is_valid)
            for name, lease in sorted(self._leases.items())
        )
        return self.bucket.state(), leases, frozenset(self._results.items()), self._over

    def check(self) -> None:
        """A manifest in the bucket has its blob."""
        manifest = self._manifest()
        for url in files_of(manifest.media) if manifest is not None else ():
            assert self.bucket.key(url) in self.bucket.objects, f"{url} is missing"

    def end(self) -> None:
        self._ended = True
        self.bucket.end()

    def _check_results(self) -> None:
        """What a job succeeded with is stored, unless it was deleted or replaced."""
        if self._results and not self._scenario.deletes:
            assert self._manifest() is not None, "a job has succeeded, but nothing is stored"
        if self._scenario == Scenario(jobs=self._scenario.jobs, faults=self._scenario.faults):
            manifest = self._manifest()
            for job, url in self._results.items():
                assert manifest is not None
                assert url == manifest.media.blob.url, f"{job} has another file"

    async def _check_garbage(self) -> None:
        """After `gc` there are a manifest and its blob, or nothing at all."""
        Clock.deletions += 100
        await self._collect()
        manifest = self._manifest()
        files = {self.bucket.key(url) for url in files_of(manifest.media)} if manifest else set()
        assert set(self.bucket.objects) == files | ({KEY} if manifest else set())

    def _start(self, job_id: str, attempt: int) -> None:
        job = Job(id=job_id, attempt=attempt)
        job.media.id = ID
        name = f"{job_id}.{attempt}"
        self._leases[name] = ModelLease(self, job)
        self._spawn(name, self._attempt(self._leases[name]))

    def _spawn(self, name: str, work: Coroutine[object, object, None]) -> None:
        context = contextvars.copy_context()
        context.run(ACTOR.set, name)
        self._tasks.append(asyncio.get_running_loop().create_task(work, context=context))

    def _end_lease(self, name: str) -> None:
        """End a lease, as if its worker had stopped: another one takes over, and it goes on."""
        self.bucket.faults -= 1
        self._leases[name].signature.is_valid = False
        self._release(self._leases[name])

    def _release(self, lease: ModelLease) -> None:
        lease.is_held = False
        if lease.job.attempt < ATTEMPTS:
            self._start(lease.job.id, lease.job.attempt + 1)

    async def _attempt(self, lease: ModelLease) -> None:
        SIGNATURE.set(lease.signature)
        try:
            media = await self._ingest(lease)
        except (LeaseLost, Failure):
            if lease.is_held and not self._ended:
                self._release(lease)
            return
        if lease.is_held:
            # A worker without the lease cannot end the job.
            lease.is_held = False
            self._results[lease.job.id] = media.blob.url

    async def _ingest(self, lease: ModelLease) -> Media:
        library = self._catalog()
        found = (await library.find(ID))[1]
        is_new = found is None or found.media.blob.url != self.bucket.url(FORMER)
        if is_new and (whole := await library.if_whole(found)) is not None:
            return whole.media
        async with StagedUploads(self._blobs) as uploads:
            staged = await uploads.stage(
                self._file, blob_stem(cast("Lease", lease), ID) + ".mp4", content_type="video/mp4"
            )
            return await commit(
                library,
                self._blobs,
                new_manifest(self.bucket.url(staged.key), staged.size_bytes),
                uploads,
                cast("Lease", lease),
                stored=found,
            )

    async def _delete(self) -> None:
        with suppress(Failure):
            await self._catalog().delete(ID)
            self._over = frozenset(self._results)

    async def _confirm(self) -> None:
        library = self._catalog()
        with suppress(Failure):
            found = await library.get(ID)
            if found is not None:
                lease = ModelLease(self, Job(id="confirmation"))
                SIGNATURE.set(lease.signature)
                attempt = SimpleNamespace(lease=lease, stored=found)
                lands = Landing(library, self._blobs, cast("Prober", None), Settings())
                await lands.confirm(cast("Attempt", attempt))

    async def _collect(self) -> None:
        collector = GarbageCollector(self._catalog(), self._blobs, GRACE)
        with suppress(Failure):
            for _ in range(2):
                async for found in collector.find():
                    await collector.remove(found)

    async def _prepare(self) -> None:
        self.bucket.at_once = True
        if self._scenario.former != "absent":
            self.bucket.store(FORMER, b"former")
            await self._catalog().commit(new_manifest(self.bucket.url(FORMER), len(b"former")))
        if self._scenario.former == "deleted":
            await self._catalog().delete(ID)
            Clock.deletions += 100
        self.bucket.at_once = False

    def _written(self, actor: str, key: str) -> None:
        if key != KEY:
            return
        if self._manifest() is None:
            Clock.deletions += 1
        else:
            assert actor.partition(".")[0] not in self._over, "a deleted media item is back"

    def _manifest(self) -> Manifest | None:
        found = self.bucket.objects.get(KEY)
        return None if found is None else parsed(found)

    @property
    def _blobs(self) -> Blobs:
        return cast("Blobs", self.bucket)

    def _catalog(self) -> Catalog:
        """The catalog of a process of its own."""
        return Catalog(self._blobs, cast("Redis", None), Settings())


@functools.lru_cache
def parsed(content: bytes) -> Manifest | None:
    """The manifest that is stored; None if it is a tombstone."""
    manifest = parse(ID, KEY, content, "")
    return None if manifest.HasField("tombstone") else manifest


def new_manifest(url: str, size_bytes: int) -> Manifest:
    media = Media(id=ID)
    media.blob.url = url
    media.blob.size_bytes = size_bytes
    return Manifest(media=media)


SCENARIOS = {
    "a job": Scenario(jobs=1, faults=2),
    "two jobs": Scenario(jobs=2, faults=1),
    "a job and a deletion": Scenario(jobs=1, deletes=True, faults=1),
    "a replacement and a deletion": Scenario(jobs=1, former="stored", deletes=True, faults=1),
    "a confirmation and a deletion": Scenario(
        former="stored", confirms=True, deletes=True, faults=1
    ),
    "a confirmation and a replacement": Scenario(jobs=1, former="stored", confirms=True, faults=1),
    "two jobs and a deletion": Scenario(jobs=2, deletes=True, faults=0),
    "a job after a deletion, and gc": Scenario(jobs=1, former="deleted", collects=True, faults=0),
}


LARGE = ("two jobs", "a replacement and a deletion")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in SCENARIOS],
)
def test_no_order_of_requests_tears_a_media_item(file: Path, name: str) -> None:
    assert explore(lambda: CommitWorld(file, SCENARIOS[name]), most=MOST_STATES) > 50


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_two_faults_tear_a_media_item_that_is_deleted(file: Path) -> None:
    scenario = Scenario(jobs=1, deletes=True, faults=2)

    assert explore(lambda: CommitWorld(file, scenario), most=MOST_STATES) > 1000


def ignore_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ModelBucket, "allows", lambda *_, **__: True)


def sign_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    write = ManifestObjects.write

    async def write_without_end(
        self: ManifestObjects, manifest: Manifest, *, over: str, lifetime: object = None
    ) -> str | None:
        return await write(self, manifest, over=over)

    monkeypatch.setattr(ManifestObjects, "write", write_without_end)


def leave_no_tombstone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def remove(self: ManifestObjects, media_id: str, _etag: str) -> bool:
        await self._blobs.remove(manifest_key(media_id))
        return True

    monkeypatch.setattr(ManifestObjects, "bury", remove)


def remove_after_an_unknown_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StagedUploads, "keep", lambda _: None)


def clean_up_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    async def remove_others(blobs: Blobs, media: Media, *_: object) -> None:
        for found in await blobs.list_objects(f"media/{media.id}/"):
            if found.key != KEY and blobs.url(found.key) not in files_of(media):
                await blobs.remove(found.key)

    monkeypatch.setattr(commit_module, "_remove_superseded", remove_others)


def confirm_what_was_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def replace(self: Catalog, manifest: Manifest, **_: object) -> Manifest:
        return await self.commit(manifest, replacing=manifest.media.etag)

    monkeypatch.setattr(Catalog, "replace", replace)


def remove_tombstones_in_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async def remove(self: ManifestObjects, media_id: str, _etag: str) -> bool:
        await self._blobs.remove(manifest_key(media_id))
        return True

    monkeypatch.setattr(ManifestObjects, "remove_tombstone", remove)


@pytest.mark.parametrize(
    ("plant", "scenario"),
    [
        (ignore_conditions, "two jobs"),
        (sign_without_end, "a job and a deletion"),
        (leave_no_tombstone, "a job and a deletion"),
        (remove_after_an_unknown_outcome, "a job"),
        (clean_up_the_folder, "two jobs and a deletion"),
        (confirm_what_was_deleted, "a confirmation and a deletion"),
        (remove_tombstones_in_one_step, "a job after a deletion, and gc"),
    ],
)
def test_every_guard_is_needed(
    monkeypatch: pytest.MonkeyPatch,
    file: Path,
    plant: Callable[[pytest.MonkeyPatch], None],
    scenario: str,
) -> None:
    plant(monkeypatch)

    with pytest.raises(Violation):
        explore(lambda: CommitWorld(file, SCENARIOS[scenario]), most=MOST_STATES)
