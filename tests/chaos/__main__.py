"""`python -m tests.chaos`: disturb a whole Ingot at random, and check every promise.

    python -m tests.chaos --seed 7 --faults 200 --stack redis-minio

The exit code is 1 if a promise was broken, and 143 if SIGTERM has stopped the run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import time
from pathlib import Path

from tests.chaos.run import Plan, run_until_stopped
from tests.servers import STACKS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--stack", choices=STACKS, default=STACKS[0])
    parser.add_argument("--broker", choices=("redis", "rabbitmq"), default="redis")
    parser.add_argument("--pause", type=float, default=1.2, help="seconds between two faults")
    parser.add_argument("--keep-redis", action="store_true", help="Redis loses nothing")
    parser.add_argument("--only", nargs="*", default=(), help="names of faults")
    parser.add_argument("--report", type=Path, help="file to which the report is written as well")
    given = parser.parse_args()
    # An origin whose client was killed is no error.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    plan = Plan(
        seed=given.seed,
        faults=given.faults,
        stack=given.stack,
        broker=given.broker,
        fault_seconds=given.pause,
        only=given.only,
        redis_is_lost=not given.keep_redis,
    )
    try:
        report = run_until_stopped(plan)
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    print(report.text())
    if given.report is not None:
        given.report.write_text(report.text() + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
