"""Minutes of load and random faults: every promise holds (see __main__.py for longer runs)."""

from __future__ import annotations

import os
import time

import pytest

from tests.chaos.run import Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_every_promise_holds_after_minutes_of_faults() -> None:
    # Another seed each day; that of a failure is in its report.
    seed = int(os.environ.get("CHAOS_SEED", time.strftime("%Y%m%d", time.gmtime())))
    plan = Plan(seed=seed, faults=25, fault_seconds=2, load_seconds=0.8, redis_is_lost=False)
    report = await run(plan)
    print(report.text())
    assert report.violations == 0, report.text()
    assert report.notes == []
