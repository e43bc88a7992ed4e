"""The text of an error, in two lines: what happened, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status

from ingot import render
from ingot.errors import (
    AccessDenied,
    AddressForbidden,
    ChecksumMismatch,
    Conflict,
    DeadlineExceeded,
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
    UnsupportedUrl,
)
from ingot.unreachable import explain

# The hint for a class also holds for its subclasses, unless they have their own.
_HINTS: Final[Mapping[type[BaseException], str]] = {
    InvalidRequest: "Correct the request and run the command again.",
    UnsupportedUrl: "Give an http or https URL.",
    AddressForbidden: (
        "Use a public address. To try Ingot on this machine alone, start the server with"
        " INGOT_EGRESS_ALLOW_LOOPBACK=on."
    ),
    AccessDenied: (
        "Give the right token with --token or INGOT_TOKEN, or store it with `ingot login`."
    ),
    Conflict: "Check with `ingot media` what is stored now, and run the command again.",
    JobNotFound: (
        "`ingot jobs` lists the jobs. Jobs that ended are removed from it after some time."
    ),
    MediaNotFound: "Store it with `ingot ingest URL`. `ingot list` shows what is stored.",
    MediaDoesNotExist: (
        "Check the URL. Ingot remembers this result for some minutes; to check the source again,"
        " run `ingot ingest --max-age 0 URL`."
    ),
    JobCancelled: "Start it again with `ingot ingest`.",
    SourceRefused: "Make the media public, or use another source.",
    SourceUnavailable: "Check that the server can reach the URL from its network, then try again.",
    MediaRefused: (
        "Use audio or video within the limits of the server. Trying the same again does not help."
    ),
    ServiceUnavailable: "Try again in a moment. If it fails again, look into the server's log.",
    ServiceFailed: "Look into the server's log. To report the problem, include the job's id.",
    DeadlineExceeded: (
        "The server may have done the work anyway: check with `ingot jobs` before you try again."
    ),
    ChecksumMismatch: "Run the command again. If it fails again, the stored file is damaged.",
    OSError: "Check the path, its permissions and the free space, then run the command again.",
}
# The hints for reasons that the hint for their class does not fit.
_HINTS_BY_REASON: Final[Mapping[str, str]] = {
    "BUCKET_FORBIDDEN": (
        "Use an object in a bucket that the server may read. Its operator can allow other buckets."
    ),
    "EXTRACTION_FAILED": (
        "Check that the server can reach the URL from its network. If it can, update yt-dlp with"
        " `ingot-server extractor update`."
    ),
    "EXTRACTOR_CRASHED": "Try again. If it fails again, look into the server's log.",
    "ENTRIES_FAILED": "`ingot job ID` shows the jobs of the entries and why they failed.",
    "SELECTION_UNAVAILABLE": (
        "Run the command without --audio-only and --max-height. `ingot convert` can convert the"
        " result."
    ),
    "TOO_MANY_ENTRIES": "Allow more entries with --max-entries, or ingest single entries.",
    "NOT_OWNER": "Ask its owner, or use a token with the scope `admin`.",
    "SCOPE_MISSING": "Use a token with this scope. The operator of the server gives them out.",
    "TRUNCATED": "Check that the file is complete at its source, then try again.",
    "RATE_LIMITED": "Try again later, when the source accepts requests again.",
    "CONVERSION_FAILED": (
        "Try another format. `ingot media URL_OR_ID` shows which streams the media has."
    ),
    "CONVERTER_CRASHED": "Try again, or convert a shorter part. The server's log has the details.",
}
_DEFAULT_HINT: Final = "Try again. If it fails again, report it with the server's log."


def write_error(
    error: IngotError | OSError, *, server: str, as_json: bool, subject: str = ""
) -> None:
    """Write an error and a hint to stderr; with `as_json` one line of google.rpc.Status instead.

    `subject` is the URL or file that failed, if there are several.
    """
    if as_json:
        status = error.status if isinstance(error, IngotError) else Status(code=2)
        status.message = status.message or summary(error, server)
        sys.stderr.write(MessageToJson(status, indent=None) + "\n")
    else:
        prefix = f"{render.printable(subject)}: " if subject else ""
        sys.stderr.write(f"ingot: {prefix}{summary(error, server)}\n{hint(error)}\n")
    sys.stderr.flush()


def write_usage_error(error: ValueError | OSError) -> None:
    """Write why the options cannot be used; what to do is a part of the message."""
    text = summary(error, "") if isinstance(error, OSError) else str(error)
    sys.stderr.write(f"ingot: {render.printable(text)}\n")
    sys.stderr.flush()


def summary(error: IngotError | OSError, server: str) -> str:
    """Return what happened, on one line."""
    if isinstance(error, ServiceUnavailable) and not error.reason:
        unreachable = explain(error.status.message)
        cause = unreachable.cause if unreachable else error.message
        return render.printable(f"Cannot connect to an Ingot server at {server}: {cause}")
    if isinstance(error, IngotError) and error.reason:
        return f"{render.printable(error.message)} [{error.reason}]"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return render.printable(f"{error.filename}: {error.strerror}")
    return render.printable(str(error))


def hint(error: IngotError | OSError) -> str:
    """Return what to do about an error, on one line."""
    notes: list[str] = getattr(error, "__notes__", [])
    if notes:
        return notes[0]
    if isinstance(error, InvalidRequest) and error.violations:
        fields = error.violations.items()
        rules = "; ".join(
            field if rule in error.message else f"{field}: it {rule}" for field, rule in fields
        )
        return render.printable(f"Correct {rules}.")
    if isinstance(error, ServiceUnavailable) and not error.reason:
        unreachable = explain(error.status.message)
        if unreachable and unreachable.advice:
            return unreachable.advice
        return (
            "Start a server with `ingot-server up`, or set its address with --server,"
            " INGOT_SERVER or `ingot config set server ADDRESS`."
        )
    if isinstance(error, IngotError) and error.reason in _HINTS_BY_REASON:
        return _HINTS_BY_REASON[error.reason]
    for kind in type(error).__mro__:
        if kind in _HINTS:
            return _HINTS[kind]
    return _DEFAULT_HINT
