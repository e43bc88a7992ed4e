"""When the chaos suite lets a job run again that has ended: only if the bucket may not know."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ingot.v1.job_pb2 import Job
from tests.chaos.claims import may_run_again
from tests.chaos.evidence import Evidence
from tests.chaos.history import AcceptedJob, History

LOSS = 1000.0


def seen_at(time: float) -> AcceptedJob:
    return AcceptedJob("j", "ingest", "Ingest", 0.0, Job(), Job(), end_seen=time)


def evidence(*disturbances: tuple[float, float], cancelled: bool = False) -> Evidence:
    history = History(cancelled={"j": 1.0} if cancelled else {})
    return Evidence(
        history=history,
        sources=cast("Any", None),
        commits=(),
        lease_seconds=3.0,
        redis_losses=[LOSS],
        disturbances=disturbances,
    )


@pytest.mark.parametrize(
    ("end_seen", "disturbances", "expected"),
    [
        (990.0, [], True),
        (980.0, [], False),
        (1010.0, [], False),
        (960.0, [(950.0, 1001.0)], True),
        (960.0, [(950.0, 970.0), (971.0, 1001.0)], True),
        (960.0, [(950.0, 970.0), (972.5, 1001.0)], False),
        (960.0, [(962.5, 1001.0)], False),
        (960.0, [(950.0, 993.0)], False),
        (960.0, [(950.0, 995.0)], True),
        (960.0, [(955.0, 999.0), (961.0, 962.0)], True),
    ],
)
def test_an_end_is_written_in_two_calm_seconds(
    end_seen: float, disturbances: list[tuple[float, float]], expected: bool
) -> None:
    assert may_run_again(evidence(*disturbances), seen_at(end_seen)) is expected


def test_an_answered_cancellation_is_written() -> None:
    assert not may_run_again(evidence((900.0, 1001.0), cancelled=True), seen_at(990.0))
