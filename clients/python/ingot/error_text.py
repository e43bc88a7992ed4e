"""What went wrong, for people in two lines: what happened, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from google.protobuf.json_format import MessageToJson
from google.rpc.status_pb2 import Status

from ingot import render
from ingot.errors import (
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

# Looked up along the class tree.
_WHAT_TO_DO: Final[Mapping[type[BaseException], str]] = {
    InvalidRequest: "Correct what is named and run the command again.",
    UnsupportedUrl: "Give an http or https URL.",
    AddressForbidden: (
        "Give a public address. To try Ingot out on this machine, start the server with"
        " INGOT_EGRESS_ALLOW_LOOPBACK=on."
    ),
    Conflict: "See what is stored now with `ingot media`, then decide again.",
    JobNotFound: (
        "`ingot jobs` lists the jobs; the records of ended ones are dropped after a while."
    ),
    MediaNotFound: "Bring it in with `ingot ingest URL`; `ingot list` shows what is stored.",
    MediaDoesNotExist: (
        "Check the URL. The answer is remembered for some minutes; `ingot ingest --max-age 0`"
        " asks the source again."
    ),
    JobCancelled: "Start it anew with `ingot ingest`.",
    SourceRefused: "Make the media public, or take it from another source.",
    SourceUnavailable: "Check that the URL works from the server's network, then try again.",
    MediaRefused: (
        "Another try gives the same answer: it has to be audio or video that the server's limits"
        " allow."
    ),
    ServiceUnavailable: "Try again in a moment; the server's log says more.",
    ServiceFailed: "The server's log says more; name the job when you report it.",
    DeadlineExceeded: (
        "The server is slow or stuck. It may have done the work: look before trying again."
    ),
    ChecksumMismatch: "Run the command again; if it repeats, the stored file is damaged.",
    OSError: "Check the path, its permissions and the free space, then run the command again.",
}
# What a class says of most of its reasons would be wrong of these.
_WHAT_TO_DO_BY_REASON: Final[Mapping[str, str]] = {
    "BUCKET_FORBIDDEN": (
        "Name an object of a bucket that the server reads; its operator can add others."
    ),
    "EXTRACTION_FAILED": (
        "Check that the URL works from the server's network; a newer yt-dlp may know more:"
        " `ingot-server extractor update`."
    ),
    "EXTRACTOR_CRASHED": "Try again; the server's log says more.",
    "ENTRIES_FAILED": "`ingot job ID` shows the jobs of the entries, and why each failed.",
    "SELECTION_UNAVAILABLE": (
        "Take what there is, without --audio-only or --max-height; `ingot convert` makes other"
        " forms of it."
    ),
    "TOO_MANY_ENTRIES": "Allow more with --max-entries, or ingest the entries that you want.",
    "TRUNCATED": "Check that the file is whole where it comes from, then try again.",
    "RATE_LIMITED": "Try again later: the source wants fewer requests.",
    "CONVERSION_FAILED": (
        "Another try gives the same answer: try another format; `ingot media` shows what the media"
        " holds."
    ),
    "CONVERTER_CRASHED": "Try again, or with a shorter part; the server's log says more.",
}
_ELSE_TO_DO: Final = "Try again; if it repeats, report it with the server's log."


def failed(error: IngotError | OSError, *, server: str, as_json: bool, about: str = "") -> None:
    """Says on stderr what happened; with `as_json` as one line of google.rpc.Status.

    `about` is what failed, where several things are under way.
    """
    if as_json:
        status = error.status if isinstance(error, IngotError) else Status(code=2)
        status.message = status.message or _what_happened(error, server)
        sys.stderr.write(MessageToJson(status, indent=None) + "\n")
    else:
        what = f"{render.printable(about)}: " if about else ""
        sys.stderr.write(f"ingot: {what}{_what_happened(error, server)}\n{_what_to_do(error)}\n")
    sys.stderr.flush()


def _what_happened(error: IngotError | OSError, server: str) -> str:
    if isinstance(error, ServiceUnavailable) and not error.reason:
        # gRPC puts the cause last: `...; last error: UNKNOWN: ...: Connection refused (111)`.
        cause = error.message.rpartition(": ")[2]
        return render.printable(f"No Ingot server answers at {server}: {cause}")
    if isinstance(error, IngotError) and error.reason:
        return f"{render.printable(error.message)} [{error.reason}]"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return render.printable(f"{error.filename}: {error.strerror}")
    return render.printable(str(error))


def _what_to_do(error: IngotError | OSError) -> str:
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
        return "Start one with `ingot-server up`, or name another with --server or INGOT_SERVER."
    if isinstance(error, IngotError) and error.reason in _WHAT_TO_DO_BY_REASON:
        return _WHAT_TO_DO_BY_REASON[error.reason]
    for kind in type(error).__mro__:
        if kind in _WHAT_TO_DO:
            return _WHAT_TO_DO[kind]
    return _ELSE_TO_DO
