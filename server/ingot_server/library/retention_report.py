"""What the rules of retention remove, as the process that last applied them counted it.

ingot:retention:survey   string  a RetentionStatus: what they would remove; expires
ingot:retention:run      string  a RetentionStatus: what they removed; expires with its survey
ingot:retention:surveyed:<digest of the rules>
                         string  expires; the rules were lately surveyed by a worker
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, cast

from google.protobuf.message import DecodeError

from ingot.v1.system_service_pb2 import RetentionCount, RetentionRule, RetentionStatus
from ingot_server.library.garbage import Garbage
from ingot_server.redis import Redis, unavailable
from ingot_server.retention_rules import Rule

_SURVEY: Final = "retention:survey"
_RUN: Final = "retention:run"
_SURVEYED: Final = "retention:surveyed:"
_LIFETIME: Final = timedelta(days=35)


class RetentionTally:
    """Counts media items by rule."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._counts = {rule.name: RetentionCount() for rule in rules}

    def add(self, garbage: Garbage) -> None:
        """Count a media item that is past a rule; ignore other garbage."""
        if garbage.rule in self._counts:
            count = self._counts[garbage.rule]
            count.media_items += 1
            count.size_bytes += garbage.size_bytes

    def of(self, rule: Rule) -> RetentionCount:
        """Return how many are past a rule."""
        return self._counts[rule.name]


class RetentionReport:
    """The report in Redis. The coroutines raise Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def begin_survey(self, rules: Sequence[Rule], interval: timedelta) -> bool:
        """Return whether a survey is due: these rules were not surveyed within `interval`."""
        digest = hashlib.sha256(repr(rules).encode()).hexdigest()
        with unavailable():
            return bool(
                await self._redis.set(
                    self._redis.key(_SURVEYED + digest[:16]), b"", nx=True, px=interval
                )
            )

    async def surveyed(self, rules: Sequence[Rule], due: RetentionTally) -> None:
        """Write what the rules would remove now; without rules, remove the report."""
        survey = _described(rules)
        for rule, described in zip(rules, survey.rules, strict=True):
            described.due.CopyFrom(due.of(rule))
        survey.survey_time.GetCurrentTime()
        with unavailable():
            if rules:
                await self._write(_SURVEY, survey)
            else:
                await self._redis.delete(self._redis.key(_SURVEY), self._redis.key(_RUN))

    async def ran(self, rules: Sequence[Rule], removed: RetentionTally) -> None:
        """Write what the rules have removed, of which nothing is left to remove."""
        run = _described(rules)
        for rule, described in zip(rules, run.rules, strict=True):
            described.removed.CopyFrom(removed.of(rule))
        run.run_time.GetCurrentTime()
        await self.surveyed(rules, RetentionTally(rules))
        with unavailable():
            await self._write(_RUN, run)

    async def read(self) -> RetentionStatus | None:
        """Return what was written last; None if there is nothing."""
        with unavailable():
            keys = [self._redis.key(_SURVEY), self._redis.key(_RUN)]
            found = cast("list[bytes | None]", await self._redis.mget(keys))
        try:
            survey, run = (RetentionStatus.FromString(each or b"") for each in found)
        except DecodeError:
            return None
        if not survey.rules:
            return None
        removed = {rule.name: rule.removed for rule in run.rules}
        for rule in survey.rules:
            rule.removed.CopyFrom(removed.get(rule.name, RetentionCount()))
        if run.HasField("run_time"):
            survey.run_time.CopyFrom(run.run_time)
        return survey

    async def _write(self, name: str, status: RetentionStatus) -> None:
        await self._redis.set(self._redis.key(name), status.SerializeToString(), px=_LIFETIME)


def _described(rules: Sequence[Rule]) -> RetentionStatus:
    return RetentionStatus(
        rules=[RetentionRule(name=rule.name, description=rule.description) for rule in rules]
    )
