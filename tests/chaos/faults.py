"""The faults of a run: each begins at a random moment, and is over some seconds later."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from ingot_server.asyncio_tasks import cancel_and_wait
from tests.bucket_proxy import Matches, is_manifest_put
from tests.chaos.cluster import (
    CONVERTER,
    SERVER,
    SPARE_BYTES,
    WORKER,
    Cluster,
    fork_servers,
    job_children,
)
from tests.chaos.connections import process_of_port
from tests.chaos.gateway import Weather
from tests.chaos.sources import Sources

FLUSH, FAIL_OVER, CLOCK_JUMP = "flush Redis", "fail over to an older Redis", "set a clock"
LOSSES = frozenset({FLUSH, FAIL_OVER})
STOP_AFTER_COMMIT = "stop a process after its commit"
# How far a replica may be behind that becomes the primary.
LONGEST_LAG_SECONDS = 4.0
# What ends need on their way into the bucket, and how long a killed one takes to start again.
_KEEPS_ENDS = ("worker", "Redis", "S3", "process")
_START_SECONDS = 3.0
# As far as machines of one installation may differ, and further.
_CLOCK_SECONDS = (2, 30, 300, 3000)
# How long a fault waits for a write at which it begins.
_WRITE_SECONDS = 5.0
_BALLAST_BYTES = SPARE_BYTES + (1 << 30)

Fault = Callable[[], Awaitable[bool]]
"""Returns whether there was anything to disturb."""


class Faults:
    """The faults that a cluster can have, by name."""

    def __init__(self, cluster: Cluster, sources: Sources, chance: random.Random) -> None:
        self._cluster = cluster
        self._sources = sources
        self._chance = chance
        self._stopped: set[int] = set()
        self._running: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        self.log: list[str] = []
        self.redis_losses: list[float] = []
        self.disturbances: list[tuple[float, float]] = []
        """When Redis had lost data, by time.time()."""
        self.begin = 0.0
        self.kinds: dict[str, tuple[Fault, int]] = {
            "kill an API server": (partial(self._kill, self._servers), 4),
            "kill a worker": (partial(self._kill, self._workers), 8),
            "kill a conversion worker": (partial(self._kill, self._converters), 3),
            "kill a fork server": (partial(self._kill, self._fork_servers), 3),
            "kill a child of a job": (partial(self._kill, self._job_children), 6),
            "kill Redis": (partial(self._kill, self._redis), 2),
            "kill S3": (partial(self._kill, self._s3), 2),
            "stop an API server": (partial(self._stop, self._servers), 4),
            "stop a worker": (partial(self._stop, self._workers), 10),
            "stop a conversion worker": (partial(self._stop, self._converters), 3),
            "stop a fork server": (partial(self._stop, self._fork_servers), 3),
            "stop a child of a job": (partial(self._stop, self._job_children), 4),
            "stop Redis": (partial(self._stop, self._redis), 3),
            "stop S3": (partial(self._stop, self._s3), 3),
            "cut Redis off": (self._cut_redis, 4),
            "slow Redis down": (self._slow_redis, 4),
            "cut S3 off": (self._cut_s3, 4),
            "slow S3 down": (self._slow_s3, 5),
            "S3 answers 503": (self._s3_errors, 6),
            STOP_AFTER_COMMIT: (partial(self._stop_after_write, is_manifest_put), 8),
            "stop a process after any write": (partial(self._stop_after_write, _is_any), 4),
            "S3 delivers manifests late": (self._late_manifests, 12),
            "S3 delivers any PUT late": (self._late_puts, 4),
            "fill scratch": (self._fill_scratch, 3),
            CLOCK_JUMP: (self._set_clock, 3),
            FLUSH: (self._flush, 2),
            FAIL_OVER: (self._fail_over, 3),
        }

    async def run(
        self, number: int, pause_seconds: float, names: list[str], certain: Sequence[str]
    ) -> None:
        """Begin `number` faults, the kinds by their weights; those that are `certain` once each."""
        weights = [self.kinds[name][1] for name in names]
        due = {number * at // (len(certain) + 1): name for at, name in enumerate(certain, 1)}
        self.begin = asyncio.get_running_loop().time()
        while self.counts.total() < number:
            for at in [at for at in due if at <= self.counts.total()]:
                await self._disturb(due[at])
                if self.counts[due[at]]:
                    del due[at]
            (name,) = self._chance.choices(names, weights)
            task = asyncio.create_task(self._disturb(name))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            await asyncio.sleep(pause_seconds * self._chance.uniform(0.2, 1.8))

    async def end(self) -> None:
        """Wait for the faults that last, and undo what is left of them."""
        if self._running:
            await asyncio.wait(self._running, timeout=15)
        await cancel_and_wait(*self._running)
        for pid in list(self._stopped):
            self._continue(pid)
        self._cluster.redis.link.mend()
        self._cluster.gateway.weather = Weather()
        await self._cluster.gateway.delivered()

    async def _disturb(self, name: str) -> None:
        begun = asyncio.get_running_loop().time() - self.begin
        began_at = time.time()
        if await self.kinds[name][0]():
            self.counts[name] += 1
            ended = asyncio.get_running_loop().time() - self.begin
            self.log.append(f"{begun:7.2f} to {ended:7.2f} s: {name}")
            if any(part in name for part in _KEEPS_ENDS):
                starting = _START_SECONDS if name.startswith("kill") else 0.0
                self.disturbances.append((began_at, time.time() + starting))

    def _servers(self) -> list[int]:
        return self._cluster.pids(SERVER)

    def _workers(self) -> list[int]:
        return self._cluster.pids(WORKER)

    def _converters(self) -> list[int]:
        return self._cluster.pids(CONVERTER)

    def _fork_servers(self) -> list[int]:
        return fork_servers(self._cluster.children(WORKER) + self._cluster.children(CONVERTER))

    def _job_children(self) -> list[int]:
        return job_children(self._cluster.children(WORKER) + self._cluster.children(CONVERTER))

    def _redis(self) -> list[int]:
        return _existing(self._cluster.redis.pid)

    def _s3(self) -> list[int]:
        return _existing(self._cluster.s3.pid)

    async def _kill(self, victims: Callable[[], list[int]]) -> bool:
        pids = victims()
        if not pids:
            return False
        return _signal(self._chance.choice(pids), signal.SIGKILL)

    async def _stop(self, victims: Callable[[], list[int]]) -> bool:
        """Stop a process for less than a lease, or for longer."""
        pids = [pid for pid in victims() if pid not in self._stopped]
        if not pids:
            return False
        pid = self._chance.choice(pids)
        if not _signal(pid, signal.SIGSTOP):
            return False
        self._stopped.add(pid)
        lease = self._cluster.settings.lease.total_seconds()
        try:
            await self._last(0.2, 2.5 * lease)
        finally:
            self._continue(pid)
        return True

    async def _stop_after_write(self, concerns: Matches) -> bool:
        """Stop a process when the bucket has carried its write out, before it gets the answer.

        It goes on when another process has written the same object, or its lease has long ended.
        """
        stopped: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        is_overtaken = asyncio.Event()

        def act(method: str, path: str, port: int) -> None:
            key = path.partition("?")[0]
            if stopped.done():
                if method == "PUT" and key == stopped.result()[1]:
                    is_overtaken.set()
            elif concerns(method, path) and (pid := self._stop_sender(port)) is not None:
                stopped.set_result((pid, key))
                if is_manifest_put(method, path):
                    # The next attempt finds another version at the source, and commits that.
                    self._sources.change_url(self._cluster.gateway.log[-1].manifest.media.url)

        with self._cluster.gateway.after_writes(act):
            await asyncio.wait([stopped], timeout=_WRITE_SECONDS)
            if not stopped.done():
                return False
            lease = self._cluster.settings.lease.total_seconds()
            try:
                async with asyncio.timeout(lease * self._chance.uniform(1.5, 3)):
                    await is_overtaken.wait()
            except TimeoutError:
                pass
            finally:
                self._continue(stopped.result()[0])
        return True

    def _stop_sender(self, port: int) -> int | None:
        """Stop the process whose request came from a port; None if it is none of Ingot's."""
        pid = process_of_port(port, self._servers() + self._workers() + self._converters())
        if pid is None or pid in self._stopped or not _signal(pid, signal.SIGSTOP):
            return None
        self._stopped.add(pid)
        return pid

    def _continue(self, pid: int) -> None:
        self._stopped.discard(pid)
        _signal(pid, signal.SIGCONT)

    async def _cut_redis(self) -> bool:
        self._cluster.redis.link.cut()
        await self._last(0.1, 4)
        self._cluster.redis.link.mend()
        return True

    async def _slow_redis(self) -> bool:
        self._cluster.redis.link.delay = self._chance.uniform(0.02, 0.3)
        await self._last(1, 4)
        self._cluster.redis.link.mend()
        return True

    async def _cut_s3(self) -> bool:
        return await self._change_weather(0.2, 5, is_cut=True)

    async def _slow_s3(self) -> bool:
        return await self._change_weather(1, 5, delay=self._chance.uniform(0.1, 1.5))

    async def _s3_errors(self) -> bool:
        return await self._change_weather(0.5, 5, errors=self._chance.uniform(0.2, 1))

    async def _late_manifests(self) -> bool:
        weather = self._cluster.gateway.weather
        weather.late_by = self._chance.choice(((0.2, 2), (0.5, 4), (4, 10)))
        return await self._change_weather(1, 5, late=self._chance.uniform(0.3, 1))

    async def _late_puts(self) -> bool:
        late = self._chance.uniform(0.1, 0.5)
        return await self._change_weather(1, 4, late=late, late_manifests_only=False)

    async def _fill_scratch(self) -> bool:
        """Take the space that scratch may use, and somewhat more."""
        ballast = self._cluster.directory / "ballast"
        if ballast.exists():
            return False
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _BALLAST_BYTES)
        try:
            await self._last(1, 5)
        finally:
            ballast.unlink()
        return True

    async def _set_clock(self) -> bool:
        if not self._cluster.clocks.can_be_set:
            return False
        names = [child.program.name for kind in self._cluster.programs.values() for child in kind]
        name, offset = self._chance.choice(names), self._chance.choice(_CLOCK_SECONDS)
        self._cluster.clocks.set(name, offset * self._chance.choice((-1, 1)))
        try:
            await self._last(2, 8)
        finally:
            self._cluster.clocks.set(name, 0)
        return True

    async def _flush(self) -> bool:
        return self._note_loss(await self._cluster.redis.flush())

    async def _fail_over(self) -> bool:
        return self._note_loss(
            await self._cluster.redis.fail_over(self._chance.uniform(0.2, LONGEST_LAG_SECONDS))
        )

    def _note_loss(self, is_lost: bool) -> bool:
        if is_lost:
            self.redis_losses.append(time.time())
        return is_lost

    async def _change_weather(self, shortest: float, longest: float, **changes: float) -> bool:
        """Faults of the way to the bucket add up; each ends for itself."""
        weather, calm = self._cluster.gateway.weather, Weather()
        for name, value in changes.items():
            setattr(weather, name, value)
        await self._last(shortest, longest)
        for name in changes:
            setattr(weather, name, getattr(calm, name))
        return True

    async def _last(self, shortest: float, longest: float) -> None:
        await asyncio.sleep(self._chance.uniform(shortest, longest))


def _is_any(_method: str, _path: str) -> bool:
    return True


def _existing(pid: int | None) -> list[int]:
    return [] if pid is None else [pid]


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
