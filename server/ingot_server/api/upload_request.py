"""What the requests of an upload say together: about its file, and about what to do with it.

An upload begins with a header, which is kept in the bucket. Later calls may replace what it says,
except the size and the SHA-256 of the file.
"""

from __future__ import annotations

from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CreateUploadUrlRequest,
    UploadHeader,
)
from ingot.v1.job_pb2 import Job
from ingot.v1.scope_pb2 import Scope
from ingot_server.api.caller import CALLER
from ingot_server.api.status import invalid
from ingot_server.config import Settings
from ingot_server.errors import too_large
from ingot_server.jobs.display_name import name_of_url, shortened
from ingot_server.jobs.lifecycle import ingest_kind
from ingot_server.library.recipes import canonical_recipes
from ingot_server.library.upload_ids import sent_upload_id
from ingot_server.library.upload_parts import LARGEST_LINK_PART_BYTES
from ingot_server.sources.upload import upload_url

_OF_THE_FIRST_CALL: Final = frozenset(
    {
        *("filename", "content_type", "size_bytes", "sha256", "request_id"),
        *("labels", "priority", "recipes", "options"),
    }
)


def merged(first: UploadHeader, later: UploadHeader) -> UploadHeader:
    """Return the header `first` with each field that `later` sets.

    Raises Failure INVALID_REQUEST if both have a SHA-256 and these differ.
    """
    if first.sha256 and later.sha256 and first.sha256 != later.sha256:
        raise invalid({"sha256": f"was {first.sha256} when the upload began"})
    header = UploadHeader()
    header.CopyFrom(first)
    for descriptor, _ in later.ListFields():
        header.ClearField(descriptor.name)  # type: ignore[arg-type]
    header.MergeFrom(later)
    return header


def checked(header: UploadHeader, *, at: str = "") -> UploadHeader:
    """Return a header with canonical recipes, after the checks that the contract cannot express.

    `at` is where its fields are in the request, such as `header.`. Raises Failure INVALID_REQUEST,
    and SCOPE_MISSING if the caller may not convert.
    """
    if header.recipes:
        CALLER.get().require(Scope.SCOPE_CONVERT)
    # A file has no playlist, no live stream, and no side files at a source.
    wrong = {
        f"{at}options.{descriptor.name}": "does not apply to an uploaded file; leave it unset"
        for descriptor, _ in header.options.ListFields()
    }
    if wrong:
        raise invalid(wrong)
    recipes = canonical_recipes(header.recipes, at=f"{at}recipes")
    result = UploadHeader()
    result.CopyFrom(header)
    # The header is kept in the bucket, and the webhook is that of this call.
    result.ClearField("webhook_url")
    result.ClearField("recipes")
    result.recipes.extend(recipes)
    return result


def first_header(request: CreateUploadUrlRequest, upload_id: str) -> UploadHeader:
    """Return the header of the upload that a CreateUploadUrl call begins under a stored id.

    Raises Failure INVALID_REQUEST for what the request lacks, and as `checked` does.
    """
    missing = [name for name in ("size_bytes", "content_type") if not getattr(request, name)]
    if missing:
        raise invalid(dict.fromkeys(missing, "must be set when an upload begins"))
    return checked(
        UploadHeader(
            upload_id=upload_id,
            filename=request.filename,
            content_type=request.content_type,
            size_bytes=request.size_bytes,
            sha256=request.sha256,
            labels=request.labels,
            priority=request.priority,
            request_id=request.request_id,
            recipes=request.recipes,
            options=request.options if request.HasField("options") else None,
        )
    )


def last_header(request: CompleteUploadRequest, upload_id: str) -> UploadHeader:
    """Return what a CompleteUpload call says as the header of an upload with a stored id.

    Raises Failure as `checked` does.
    """
    return checked(
        UploadHeader(
            upload_id=upload_id,
            sha256=request.sha256,
            labels=request.labels,
            priority=request.priority,
            request_id=request.request_id,
            recipes=request.recipes,
            options=request.options if request.HasField("options") else None,
        )
    )


def check_continues(request: CreateUploadUrlRequest) -> None:
    """Raise Failure INVALID_REQUEST for fields that only the first call of an upload may have."""
    wrong = [
        descriptor.name
        for descriptor, _ in request.ListFields()
        if descriptor.name in _OF_THE_FIRST_CALL
    ]
    if wrong:
        raise invalid(dict.fromkeys(wrong, "must be unset in a call that continues an upload"))


def check_size(size: int, settings: Settings) -> None:
    """Raise Failure TOO_LARGE for a file that is larger than the installation accepts."""
    limit = int(settings.max_media_size)
    if size > limit:
        raise too_large(limit, size)


def part_size(request: CreateUploadUrlRequest, file_size: int) -> int:
    """Return the size of the part that a CreateUploadUrl call is about.

    Raises Failure INVALID_REQUEST if the part is not in the file.
    """
    left = file_size - request.offset
    if left <= 0:
        raise invalid({"offset": f"must be less than the {file_size} bytes of the file"})
    if request.part_size_bytes > left:
        raise invalid({"part_size_bytes": f"must be at most {left}, the rest of the file"})
    return request.part_size_bytes or min(left, LARGEST_LINK_PART_BYTES)


def draft(header: UploadHeader) -> Job:
    """Return the draft of the job that an upload asks for."""
    return Job(
        kind=ingest_kind(header.recipes),
        priority=header.priority or job_pb2.JOB_PRIORITY_NORMAL,
        display_name=shortened(header.filename)
        or name_of_url(upload_url(sent_upload_id(header.upload_id))),
        labels=header.labels,
        options=header.options if header.options.ByteSize() else None,
        recipes=header.recipes,
    )
