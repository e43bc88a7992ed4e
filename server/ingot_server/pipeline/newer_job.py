"""Jobs that a newer API server has accepted and this worker does not know how to do."""

from __future__ import annotations

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.errors import Failure


def require_known(job: Job) -> None:
    """Raise Failure WRITTEN_BY_NEWER_VERSION for a job of a kind, or with a recipe, that is new.

    Another attempt may reach a worker that has been upgraded.
    """
    is_known = job.kind in job_pb2.JobKind.values() and all(
        recipe.WhichOneof("format") for recipe in job.recipes
    )
    if not is_known:
        raise Failure(
            reason_pb2.REASON_WRITTEN_BY_NEWER_VERSION,
            "A newer version of Ingot has accepted this job, and this worker cannot do what it "
            "asks for. Upgrade the workers, then run the job again (docs/upgrading.md).",
        )
