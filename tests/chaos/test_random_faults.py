"""Minutes of load and random faults: every promise holds (see __main__.py for longer runs)."""

from __future__ import annotations

import os

import pytest

from tests.chaos.faults import FAIL_OVER, FLUSH, STOP_AFTER_COMMIT
from tests.chaos.run import Plan, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


async def test_every_promise_holds_after_minutes_of_faults() -> None:
    # Each change is judged by the same plan; `make chaos` takes another seed each time.
    seed = int(os.environ.get("CHAOS_SEED", "20261130"))
    plan = Plan(
        seed=seed,
        faults=25,
        fault_seconds=2,
        load_seconds=0.8,
        certain=(FLUSH, FAIL_OVER, STOP_AFTER_COMMIT),
    )
    report = await run(plan)
    print(report.text())
    assert report.violations == 0, report.text()
    assert report.notes == []
