"""What the holder of a lease has changed in its job and not written yet.

A change of progress may wait for the next write, and so may one of the stage: the stages that a job
has left are written together with its present one, so watchers get every stage. A job that commits
does not wait, because from then on it cannot be cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.jobs.lifecycle import copy_of, milestone
from ingot_server.jobs.wishes import carry_over


class PendingChanges:
    """A job with all changes, `job`, and as it was last `written`.

    `passed` are the last versions of the stages that it has entered and left since.
    """

    def __init__(self, job: Job) -> None:
        self.job = copy_of(job)
        self.written = copy_of(job)
        self.passed: list[Job] = []

    def __bool__(self) -> bool:
        return bool(self.passed) or self.job != self.written

    def apply(self, change: Callable[[Job], None]) -> None:
        """Change the job."""
        before = copy_of(self.job)
        change(self.job)
        last = self.passed[-1] if self.passed else self.written
        if milestone(before) not in (milestone(last), milestone(self.job)):
            self.passed.append(before)

    def have_stages(self) -> bool:
        """Tell whether the job has entered a stage, or more, since it was written."""
        return bool(self.passed) or milestone(self.job) != milestone(self.written)

    def can_wait(self) -> bool:
        """Tell whether the job differs from what is written in its stage and progress at most."""
        if self.job.stage == job_pb2.JOB_STAGE_COMMITTING != self.written.stage:
            return False
        job, written = copy_of(self.job), copy_of(self.written)
        for each in job, written:
            each.ClearField("stage")
            each.ClearField("progress")
            # These are filled in by a write.
            each.ClearField("epoch")
            each.ClearField("revision")
        return job == written

    def take_over(self, written: Job, passed: Sequence[Job]) -> None:
        """Take over a revision that was written, after those that were `passed`."""
        self.written = written
        del self.passed[: len(passed)]
        self.job.epoch, self.job.revision = written.epoch, written.revision
        carry_over(written, self.job)
        progress = self.job.progress
        progress.fraction = max(progress.fraction, written.progress.fraction)
