"""A bucket whose requests are carried out one at a time, in the order that a test chooses.

It is a model of what the protocol of commits may rely on: a PUT or DELETE is done in one step,
conditions are exact, and a signature expires. What SeaweedFS and MinIO do is tested elsewhere.
Faults are those of a network and of a proxy: no answer, although the request was carried out; an
error at once, and the request arrives later.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import cast

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.library.blobs import StoredObject, UnfinishedUpload
from ingot_server.library.multipart import Content, StoredBlob
from tests.model.interleavings import Step

ACTOR: ContextVar[str] = ContextVar("actor")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Signature:
    """What makes a signed PUT valid, until it expires."""

    is_valid: bool = True


# The signature that the next signed PUT of a task is made with.
SIGNATURE: ContextVar[Signature] = ContextVar("signature")


@dataclass(slots=True)
class Request:
    """A request that the bucket has not carried out yet."""

    actor: str
    name: str
    carry_out: Callable[[], Hashable]
    answer: asyncio.Future[Hashable]
    faults: Faults


class Faults(enum.Enum):
    """What may go wrong with a request."""

    NONE = enum.auto()
    FAILS = enum.auto()
    UNKNOWN_OUTCOME = enum.auto()
    """It may fail although it is carried out, at once or later."""


@dataclass
class ModelBucket:
    """Has the methods of `Blobs` that commits, deletions and `gc` call."""

    faults: int
    """How many more faults there may be."""
    objects: dict[str, bytes] = field(default_factory=dict)
    waiting: list[Request] = field(default_factory=list)
    late: list[Request] = field(default_factory=list)
    history: defaultdict[str, list[Hashable]] = field(default_factory=lambda: defaultdict(list))
    """What each actor has been told, without immediate repetitions."""
    written: Callable[[str, str], None] = lambda _actor, _key: None
    """Called after each PUT that was carried out."""
    now: Callable[[], datetime] = lambda: BEGIN
    at_once: bool = False
    """Whether requests are carried out without a choice."""
    _times: dict[str, datetime] = field(default_factory=dict)

    def steps(self) -> list[Step]:
        """Return what may happen to the requests that wait, and to those that are late."""
        found = []
        for request in self.waiting:
            found.append(_step(request, "arrives", partial(self._answer, request)))
            if not self.faults:
                continue
            if request.faults is Faults.UNKNOWN_OUTCOME:
                found.append(_step(request, "is done, unanswered", partial(self._lose, request)))
                found.append(_step(request, "fails, to be late", partial(self._delay, request)))
            elif request.faults is Faults.FAILS:
                found.append(_step(request, "fails", partial(self._fail, request)))
        found.extend(
            _step(each, "arrives late", partial(self._deliver, each)) for each in self.late
        )
        return found

    def state(self) -> Hashable:
        return (
            self.faults,
            tuple(sorted(self.objects.items())),
            tuple(sorted((each.actor, each.name) for each in self.waiting)),
            tuple(sorted((each.actor, each.name) for each in self.late)),
            tuple(sorted((actor, tuple(told)) for actor, told in self.history.items())),
        )

    def end(self) -> None:
        """Carry out everything at once from now on."""
        self.at_once = True
        while self.waiting:
            self._answer(self.waiting[0])
        while self.late:
            self._deliver(self.late[0])

    async def ask(
        self, name: str, carry_out: Callable[[], Hashable], faults: Faults = Faults.FAILS
    ) -> Hashable:
        """Return what `carry_out` returns, when its turn has come."""
        if self.at_once:
            return carry_out()
        answer: asyncio.Future[Hashable] = asyncio.get_running_loop().create_future()
        self.waiting.append(Request(ACTOR.get(), name, carry_out, answer, faults))
        return await answer

    def store(self, key: str, data: bytes) -> None:
        """Write an object at once."""
        self.objects[key] = data
        self._times[key] = self.now()

    def url(self, key: str) -> str:
        return f"s3://model/{key}"

    def key(self, url: str) -> str:
        return url.removeprefix("s3://model/")

    async def get(self, key: str) -> tuple[bytes, str] | None:
        def carry_out() -> Hashable:
            found = self.objects.get(key)
            return None if found is None else (found, _etag(found))

        return cast("tuple[bytes, str] | None", await self.ask(f"GET {key}", carry_out))

    async def stat(self, key: str) -> StoredBlob | None:
        def carry_out() -> Hashable:
            found = self.objects.get(key)
            return None if found is None else StoredBlob(len(found), _etag(found))

        return cast("StoredBlob | None", await self.ask(f"HEAD {key}", carry_out))

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str,
        if_none_match: bool = False,
        if_match: str = "",
        lifetime: timedelta | None = None,
    ) -> str | None:
        signature = SIGNATURE.get() if lifetime is not None else Signature()
        actor = ACTOR.get()

        def carry_out() -> Hashable:
            if not signature.is_valid:
                raise _failure("the signature has expired")
            if not self.allows(key, if_none_match=if_none_match, if_match=if_match):
                return None
            self.store(key, data)
            self.written(actor, key)
            return _etag(data)

        condition = f"over {if_match[:4]}" if if_match else "as new"
        name = f"PUT {key} {condition} {_etag(data)[:4]}"
        etag = await self.ask(name, carry_out, Faults.UNKNOWN_OUTCOME)
        return cast("str | None", etag)

    def allows(self, key: str, *, if_none_match: bool, if_match: str) -> bool:
        """Return whether the conditions of a PUT are met."""
        found = self.objects.get(key)
        if if_none_match:
            return found is None
        return not if_match or (found is not None and _etag(found) == if_match)

    async def upload(
        self,
        key: str,
        content: Content,
        *,
        content_type: str,
        size_bytes: int | None,
        seen: Callable[[bytes], object] = lambda _: None,
    ) -> StoredBlob:
        with contextlib.closing(content), content.part(0, content.wait(1 << 20)) as whole:
            data = whole.read()
        seen(data)

        def carry_out() -> Hashable:
            self.store(key, data)
            return StoredBlob(len(data), _etag(data))

        return cast("StoredBlob", await self.ask(f"PUT {key}", carry_out))

    async def remove(self, key: str) -> None:
        await self.ask(f"DELETE {key}", lambda: self.objects.pop(key, None) and None)

    async def remove_within(self, key: str, *, lifetime: timedelta) -> None:
        await self.remove(key)

    async def list_objects(self, prefix: str) -> list[StoredObject]:
        def carry_out() -> Hashable:
            return tuple(
                StoredObject(key, len(data), self._times[key], _etag(data))
                for key, data in sorted(self.objects.items())
                if key.startswith(prefix)
            )

        found = await self.ask(f"LIST {prefix}", carry_out)
        return list(cast("tuple[StoredObject, ...]", found))

    async def abort_uploads(self, prefix: str) -> None:
        """Does nothing: no upload of the model has parts."""

    async def unfinished_uploads(self, prefix: str) -> list[UnfinishedUpload]:
        return []

    def _answer(self, request: Request) -> None:
        self.waiting.remove(request)
        try:
            result = request.carry_out()
        except Failure as failure:
            self._tell(request, failure)
        else:
            self._tell(request, result)

    def _lose(self, request: Request) -> None:
        self.faults -= 1
        self.waiting.remove(request)
        self._deliver(request)
        self._tell(request, _failure("no answer"))

    def _delay(self, request: Request) -> None:
        self.faults -= 1
        self.waiting.remove(request)
        self.late.append(request)
        self._tell(request, _failure("504"))

    def _fail(self, request: Request) -> None:
        self.faults -= 1
        self.waiting.remove(request)
        self._tell(request, _failure("500"))

    def _deliver(self, request: Request) -> None:
        if request in self.late:
            self.late.remove(request)
        try:
            request.carry_out()
        except Failure:
            return

    def _tell(self, request: Request, result: Hashable | Failure) -> None:
        """Answer the request, unless its sender was cancelled."""
        told = (request.name, str(result) if isinstance(result, Failure) else result)
        if self.history[request.actor][-1:] != [told]:
            self.history[request.actor].append(told)
        if request.answer.done():
            return
        if isinstance(result, Failure):
            request.answer.set_exception(result)
        else:
            request.answer.set_result(result)


def _step(request: Request, happens: str, take: Callable[[], None]) -> Step:
    return Step(f"{request.actor}: {request.name} {happens}", take)


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _failure(cause: str) -> Failure:
    return Failure(reason_pb2.REASON_STORAGE_UNAVAILABLE, f"The bucket: {cause}.")
