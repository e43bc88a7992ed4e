"""The report of a run, for people: what was done, what was claimed, and what did not hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.chaos.claims import Finding
from tests.chaos.evidence import Evidence
from tests.chaos.history import state_name

_SHOWN = 12


@dataclass
class Report:
    """The result of one run."""

    seed: int
    stack: str
    broker: str
    seconds: float
    faults: Counter[str]
    fault_log: list[str]
    jobs: Counter[tuple[str, str]]
    calls: Counter[str]
    findings: Sequence[Finding]
    notes: list[str] = field(default_factory=list)
    """What did not work in the suite itself."""

    @property
    def violations(self) -> int:
        return sum(len(finding.violations) for finding in self.findings)

    def text(self) -> str:
        """The whole report."""
        return "\n".join(
            [
                self._title(),
                "",
                *_table("fault", sorted(self.faults.items())),
                *_table("job", sorted((" ".join(key), n) for key, n in self.jobs.items())),
                *_table("call", sorted(self.calls.items())),
                *_table(
                    "claim",
                    [
                        (f"{finding.claim}: {_verdict(finding)}", finding.checked)
                        for finding in self.findings
                    ],
                ),
                *self._violations(),
                *self.notes,
            ]
        )

    def _title(self) -> str:
        return (
            f"seed {self.seed}, {self.stack}, broker {self.broker}: {self.faults.total()} faults, "
            f"{self.jobs.total()} jobs, {self.seconds:.0f} s"
        )

    def _violations(self) -> list[str]:
        lines = []
        for finding in self.findings:
            if finding.violations:
                lines += ["", f"VIOLATED {finding.claim}"]
                lines += [f"  {violation}" for violation in finding.violations[:_SHOWN]]
                if more := len(finding.violations) - _SHOWN:
                    lines += [f"  and {more} more"] if more > 0 else []
        if lines:
            lines += ["", "The faults, by the seconds since the first one:"]
            lines += [f"  {line}" for line in self.fault_log]
        return lines


def jobs_by_outcome(evidence: Evidence) -> Counter[tuple[str, str]]:
    """Count the accepted jobs by what the caller did and how they ended."""
    found: Counter[tuple[str, str]] = Counter()
    for job in evidence.history.jobs.values():
        found[job.kind, state_name(job.latest)] += 1
    found["any", "CACHED"] = len(evidence.history.cached)
    return found


def _verdict(finding: Finding) -> str:
    return f"{len(finding.violations)} VIOLATIONS" if finding.violations else "holds"


def _table(name: str, rows: Sequence[tuple[str, int]]) -> list[str]:
    return [f"{count:6}  {name} {what}" for what, count in rows] + [""]
