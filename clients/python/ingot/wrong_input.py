"""What is wrong in a command line that the server or the file system refuses."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Final

from ingot.errors import IngotError, InvalidRequest
from ingot.ids import is_job_id, is_media_id


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a command takes, what to say of anything else, and where to look."""

    kind: str
    refusal: str
    advice: str


_A_JOB: Final = _Wanted(
    "the id of a job",
    "is not the id of a job, which has 26 letters and digits",
    "`ingot jobs` shows the ids.",
)
_A_MEDIA_ITEM: Final = _Wanted(
    "a media item",
    "is neither a URL nor the id of a media item, which has 52 letters and digits",
    "Begin a URL with http:// or https://. `ingot list` shows the ids.",
)
_A_URL: Final = _Wanted("a URL", "is not a URL", "Begin it with http:// or https://.")

_JOB_COMMANDS: Final = ("job", "watch", "cancel", "retry")
_URL_COMMANDS: Final = ("ingest", "resolve")
_WRONG_PATH: Final = frozenset(
    {
        errno.EACCES,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


def is_wrong_input(error: IngotError | OSError, command: str, name: str) -> bool:
    """Return whether `command` can only succeed after its arguments are corrected.

    `name` is the id, URL or file that it was about. If it is not of the kind that the command
    takes, `error` says so afterwards, and which command takes it.
    """
    if isinstance(error, OSError):
        return error.errno in _WRONG_PATH
    if command in _JOB_COMMANDS and _is_about_job_id(error) and not is_job_id(name):
        _explain(error, name, _A_JOB)
        return True
    if "url" in error.violations and "://" not in name:
        _explain(error, name, _A_URL if command in _URL_COMMANDS else _A_MEDIA_ITEM)
    return isinstance(error, InvalidRequest)


def _is_about_job_id(error: IngotError) -> bool:
    return error.reason == "JOB_NOT_FOUND" or "job_id" in error.violations


def _explain(error: IngotError, name: str, wanted: _Wanted) -> None:
    """Let `error` say that `name` is not what is wanted, what it is, and which command helps."""
    if is_job_id(name):
        error.message = f"{name} is the id of a job, and not {wanted.kind}."
        error.add_note(f"`ingot job {name}` shows the job and its media item.")
    elif is_media_id(name):
        error.message = f"{name} is the id of a media item, and not {wanted.kind}."
        error.add_note(f"`ingot media {name}` shows the media item.")
    elif "://" in name:
        error.message = f"{name} is a URL, and not {wanted.kind}."
        error.add_note("`ingot media URL` shows what is stored of a URL.")
    else:
        error.message = f"{name!r} {wanted.refusal}."
        error.add_note(wanted.advice)
