"""One run for planted.py, in a process that has the copy with the bug in its path."""

from __future__ import annotations

import json
import logging
import sys
from datetime import timedelta
from pathlib import Path

import ingot_server
from tests.chaos.cluster import SETTINGS
from tests.chaos.run import Plan, run_until_stopped


def main(text: str) -> None:
    """Print the broken claims as JSON, after the report."""
    tree = Path.cwd()
    assert Path(ingot_server.__file__).is_relative_to(tree), "the copy is not what runs"
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    fields = json.loads(text)
    lease = timedelta(seconds=fields.pop("lease", SETTINGS.lease.total_seconds()))
    report = run_until_stopped(Plan(settings=SETTINGS.replace(lease=lease), **fields))
    print(report.text())
    print(json.dumps([finding.claim for finding in report.findings if finding.violations]))


if __name__ == "__main__":
    main(sys.argv[1])
