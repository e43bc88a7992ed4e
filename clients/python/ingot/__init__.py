"""The client of Ingot, the media ingest service: `async with Client("localhost:50051") as client`.

The names are loaded on first use, so that a program can import the generated messages in `ingot.v1`
without loading gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ingot.client import Client
    from ingot.enums import name_of
    from ingot.errors import (
        AccessDenied,
        AddressForbidden,
        ChecksumMismatch,
        Conflict,
        DeadlineExceeded,
        FeedNotFound,
        IngotError,
        InvalidRequest,
        JobCancelled,
        JobNotFound,
        MediaDoesNotExist,
        MediaNotFound,
        MediaRefused,
        ServiceFailed,
        ServiceUnavailable,
        SourceRefused,
        SourceUnavailable,
        SubscriptionNotFound,
        UnsupportedUrl,
    )
    from ingot.job import IngestJob, RemovedJob
    from ingot.notebook import MediaView
    from ingot.sync_client import SyncClient
    from ingot.sync_job import SyncIngestJob
    from ingot.v1.ingest_service_pb2 import IngestRequest, ResolveResponse
    from ingot.v1.job_pb2 import IngestOptions, Job, JobKind, JobPriority, JobStage, JobState
    from ingot.v1.job_service_pb2 import SnapshotEnd
    from ingot.v1.media_pb2 import Media, Selection
    from ingot.v1.recipe_pb2 import Recipe
    from ingot.v1.subscription_pb2 import Subscription

__all__ = [
    "AccessDenied",
    "AddressForbidden",
    "ChecksumMismatch",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "FeedNotFound",
    "IngestJob",
    "IngestOptions",
    "IngestRequest",
    "IngotError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobKind",
    "JobNotFound",
    "JobPriority",
    "JobStage",
    "JobState",
    "Media",
    "MediaDoesNotExist",
    "MediaNotFound",
    "MediaRefused",
    "MediaView",
    "Recipe",
    "RemovedJob",
    "ResolveResponse",
    "Selection",
    "ServiceFailed",
    "ServiceUnavailable",
    "SnapshotEnd",
    "SourceRefused",
    "SourceUnavailable",
    "Subscription",
    "SubscriptionNotFound",
    "SyncClient",
    "SyncIngestJob",
    "UnsupportedUrl",
    "name_of",
]

# The modules of the names that are not in ingot.errors.
_MODULES: Final = {
    "Client": "ingot.client",
    "IngestJob": "ingot.job",
    "IngestOptions": "ingot.v1.job_pb2",
    "IngestRequest": "ingot.v1.ingest_service_pb2",
    "Job": "ingot.v1.job_pb2",
    "JobKind": "ingot.v1.job_pb2",
    "JobPriority": "ingot.v1.job_pb2",
    "JobStage": "ingot.v1.job_pb2",
    "JobState": "ingot.v1.job_pb2",
    "Media": "ingot.v1.media_pb2",
    "MediaView": "ingot.notebook",
    "Recipe": "ingot.v1.recipe_pb2",
    "RemovedJob": "ingot.job",
    "ResolveResponse": "ingot.v1.ingest_service_pb2",
    "Selection": "ingot.v1.media_pb2",
    "SnapshotEnd": "ingot.v1.job_service_pb2",
    "Subscription": "ingot.v1.subscription_pb2",
    "SyncClient": "ingot.sync_client",
    "SyncIngestJob": "ingot.sync_job",
    "name_of": "ingot.enums",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULES.get(name, "ingot.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
