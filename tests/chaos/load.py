"""The mixed load of a run: what callers do, decided by the seed, at an even pace."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest, UploadHeader
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.job_service_pb2 import CancelJobRequest
from ingot.v1.media_service_pb2 import DeleteMediaRequest
from ingot.v1.recipe_pb2 import Recipe
from ingot_server import garbage_collection
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import has_ended
from tests.chaos.callers import Callers, new_id
from tests.chaos.history import AcceptedJob, History, Repetition
from tests.chaos.sources import Served, Sources
from tests.recipes import make_recipe

_RECIPES: tuple[tuple[str, dict[str, int]], ...] = (
    *(("opus", {}), ("wav", {}), ("mp3", {}), ("jpeg", {})),
    ("mp3", {"bitrate_kbps": 96}),
)
Action = Callable[[], Awaitable[None]]


class Load:
    """Starts one action after another; each goes on by itself until it is answered."""

    def __init__(
        self,
        callers: Callers,
        sources: Sources,
        history: History,
        chance: random.Random,
        garbage_settings: Callable[[], Settings],
        weights: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Prepare actions by `weights`, the names of methods; without any, all of them."""
        self._callers = callers
        self._sources = sources
        self._history = history
        self._chance = chance
        self._garbage_settings = garbage_settings
        self._actions: set[asyncio.Task[None]] = set()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self.failures: list[str] = []
        """Errors of the load itself, which are none of Ingot's promises."""
        self.counts: Counter[str] = Counter()
        # The weights of a service whose callers mostly want something new.
        self._weights: dict[Action, int] = {
            self.ingest_new: 30,
            self.ingest_newest: 4,
            self.ingest_known: 12,
            self.ingest_twice_at_once: 6,
            self.revalidate: 10,
            self.convert: 9,
            self.convert_url: 3,
            self.ingest_with_recipe: 3,
            self.ingest_feed: 2,
            self.ingest_page: 2,
            self.upload: 8,
            self.repeat_request: 5,
            self.cancel: 5,
            self.cancel_and_ingest: 3,
            self.delete: 8,
            self.delete_and_ingest: 4,
            self.download: 4,
            self.collect_garbage: 1,
        }
        if weights:
            self._weights = {getattr(self, name): weight for name, weight in weights.items()}

    async def run(self, pause_seconds: float) -> None:
        """Act again and again until cancelled."""
        actions, weights = list(self._weights), list(self._weights.values())
        while True:
            (action,) = self._chance.choices(actions, weights)
            self.start(action)
            await asyncio.sleep(pause_seconds * self._chance.uniform(0.2, 1.8))

    def start(self, action: Action) -> None:
        self.counts[action.__name__] += 1
        task = asyncio.create_task(self._act(action))
        self._actions.add(task)
        task.add_done_callback(self._actions.discard)

    async def answered(self, seconds: float) -> None:
        """Wait until every action that has begun is answered, and give the others up."""
        if self._actions:
            _, unanswered = await asyncio.wait(self._actions, timeout=seconds)
            await cancel_and_wait(*unanswered)

    async def ended(self, seconds: float) -> None:
        """Wait until the watchers have seen the ends of all jobs, while they see something new.

        Give up after `seconds` in which no job has changed, or ten times as many in all.
        """
        for _ in range(10):
            if not (running := [watch for watch in self._watches.values() if not watch.done()]):
                return
            seen = self._history.revisions()
            await asyncio.wait(running, timeout=seconds)
            if self._history.revisions() == seen:
                return

    async def close(self) -> None:
        await cancel_and_wait(*self._actions, *self._watches.values())

    async def _act(self, action: Action) -> None:
        try:
            await action()
        except grpc.aio.AioRpcError:
            return  # counted with the calls: the caller knows that nothing was accepted
        except Exception as error:
            self.failures.append(f"{action.__name__}: {error!r}")

    def _accept(self, kind: str, request: str, job: Job) -> None:
        accepted = self._history.accept(kind, request, job)
        if accepted is not None:
            self._watches[job.id] = asyncio.create_task(self._callers.watch(accepted))

    async def _ingest(self, kind: str, url: str, **fields: Any) -> Job:
        fields.setdefault("request_id", new_id(self._chance))
        request = IngestRequest(url=url, **fields)
        answer = await self._callers.call("ingests.Ingest", request)
        self._accept(kind, f"Ingest {url}", answer.job)
        job: Job = answer.job
        return job

    async def ingest_new(self) -> None:
        await self._ingest("ingest", self._sources.publish().url)

    async def ingest_newest(self) -> None:
        """Want the newest version of something new: a later attempt asks the source again."""
        await self._ingest("ingest", self._sources.publish().url, max_age=Duration())

    async def ingest_known(self) -> None:
        if served := self._known():
            await self._ingest("ingest", served.url)

    async def ingest_twice_at_once(self) -> None:
        """Two callers want the same: they share one job, unless the first has ended meanwhile."""
        url = self._sources.publish().url
        await asyncio.gather(self._ingest("ingest", url), self._ingest("ingest", url))

    async def revalidate(self) -> None:
        if served := self._known():
            if self._chance.random() < 0.7 and not served.is_page:
                self._sources.change(served)
            await self._ingest("revalidation", served.url, max_age=Duration())

    async def ingest_with_recipe(self) -> None:
        url = self._sources.publish().url
        await self._ingest("workflow", url, recipes=[self._recipe()])

    async def ingest_feed(self) -> None:
        feed = self._sources.publish_feed(self._chance.randrange(2, 5))
        await self._ingest("playlist", feed.url, options=IngestOptions(playlist=True))

    async def ingest_page(self) -> None:
        await self._ingest("page", self._sources.publish_page().url)

    async def convert(self) -> None:
        if (job := self._succeeded()) is not None:
            await self._convert(media_id=job.latest.media.id)

    async def convert_url(self) -> None:
        await self._convert(url=self._sources.publish().url)

    async def _convert(self, **name: str) -> None:
        request = ConvertRequest(
            recipe=self._recipe(),
            request_id=new_id(self._chance),
            **name,  # type: ignore[arg-type]
        )
        answer = await self._callers.call("ingests.Convert", request)
        self._accept("conversion", f"Convert {name}", answer.job)

    async def upload(self) -> None:
        content = self._sources.content()
        sha256 = hashlib.sha256(content).hexdigest()
        if self._chance.random() < 0.2:
            sha256 = "0" * 64
        header = UploadHeader(
            filename="clip.mp4",
            size_bytes=len(content),
            sha256=sha256,
            upload_id=new_id(self._chance),
        )
        job = await self._callers.upload(content, header)
        self._accept("upload", f"Upload {header.upload_id}", job)

    async def repeat_request(self) -> None:
        """One call that is made twice, as after an answer that was lost."""
        url, request_id = self._sources.publish().url, new_id(self._chance)
        begin = time.time()
        first = await self._ingest("ingest", url, request_id=request_id)
        await asyncio.sleep(self._chance.uniform(0, 3))
        second = await self._ingest("ingest", url, request_id=request_id)
        self._history.repeated.append(
            Repetition(request_id, first.id, second.id, begin, time.time())
        )

    async def cancel(self) -> None:
        if running := self._running():
            await self._cancel(self._chance.choice(running))

    async def cancel_and_ingest(self) -> None:
        """Cancel a job that takes long, and want the newest version of the same at once."""
        if running := [job for job in self._running() if job.latest.url]:
            job = self._chance.choice(running)
            await self._cancel(job)
            self._sources.change_url(job.latest.url)
            await self._ingest("revalidation", job.latest.url, max_age=Duration())

    async def _cancel(self, job: AcceptedJob) -> None:
        answer = await self._callers.call("jobs.CancelJob", CancelJobRequest(job_id=job.id))
        if answer.job.state == job_pb2.JOB_STATE_CANCELLED:
            self._history.cancelled.setdefault(answer.job.id, time.time())

    async def delete(self) -> None:
        if (job := self._succeeded()) is not None:
            await self._delete(job)

    async def delete_latest(self) -> None:
        """Delete what has just been stored: requests of its jobs may still be on their way."""
        if (job := self._succeeded(among=3)) is not None:
            await self._delete(job)

    async def delete_and_ingest(self) -> None:
        """Delete a media item that is fetched again at the same moment."""
        if (job := self._succeeded()) is not None:
            await asyncio.gather(self._delete(job), self._ingest("ingest", job.latest.url))

    async def _delete(self, job: AcceptedJob) -> None:
        request = DeleteMediaRequest(media_id=job.latest.media.id, allow_missing=True)
        await self._callers.call("media.DeleteMedia", request)

    async def download(self) -> None:
        """Read a media item to the end. What ends as whole must be what a source has served."""
        if (job := self._succeeded()) is None or job.latest.media.derived_from_media_id:
            return
        content = await self._callers.download(job.latest.media.id)
        sha256 = hashlib.sha256(content).hexdigest()
        if not self._sources.knows(sha256):
            self._history.wrong_bytes.append(f"{job.latest.media.id}: {len(content)} bytes")

    async def collect_garbage(self) -> None:
        """What a worker does once a day."""
        settings = self._garbage_settings()
        with contextlib.suppress(Failure):
            await garbage_collection.collect_garbage(settings, delete=True, say=lambda _line: None)

    def _recipe(self) -> Recipe:
        name, parameters = self._chance.choice(_RECIPES)
        return make_recipe(name, **parameters)

    def _running(self) -> list[AcceptedJob]:
        return [job for job in self._history.jobs.values() if not has_ended(job.latest)]

    def _known(self) -> Served | None:
        known = [served for served in self._sources.served.values() if not served.is_list]
        return self._chance.choice(known[-40:]) if known else None

    def _succeeded(self, among: int = 40) -> AcceptedJob | None:
        """One of the latest jobs that has made a media item of its own."""
        found = [
            job
            for job in self._history.jobs.values()
            if job.end is not None and job.latest.media.blob.url and job.kind != "upload"
        ]
        return self._chance.choice(found[-among:]) if found else None
