"""The translation of telethon's exceptions to failures: one table from its errors to reasons."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot_server.config import PREFIX
from ingot_server.errors import Failure

_LONGEST_WAIT: Final = timedelta(days=1)


def not_configured(setting: str, message: str) -> Failure:
    """Return the failure of a source that lacks `setting`, or cannot use its value."""
    return Failure(
        reason_pb2.REASON_SOURCE_NOT_CONFIGURED,
        message,
        metadata={"setting": PREFIX + setting.upper()},
    )


def translated(exc: Exception, errors: Any) -> Failure:
    """Return the failure for an exception of telethon. `errors` is telethon.errors."""
    for names, make in _TRANSLATIONS:
        if isinstance(exc, tuple(getattr(errors, name) for name in names)):
            return make(exc)
    if isinstance(exc, errors.RPCError):
        return Failure(
            reason_pb2.REASON_SOURCE_FAILED,
            f"Telegram returned {exc.message or type(exc).__name__}.",
            metadata={"http_status": str(abs(exc.code or 500))},
        )
    if isinstance(exc, (OSError, asyncio.IncompleteReadError, _proxy_error())):
        return Failure(
            reason_pb2.REASON_SOURCE_UNREACHABLE, "Telegram's servers could not be reached."
        )
    return Failure(
        reason_pb2.REASON_SOURCE_FAILED,
        f"Telegram's response is not valid MTProto: {type(exc).__name__}.",
        metadata={"http_status": "500"},
    )


def foreign(telethon: Any) -> tuple[type[Exception], ...]:
    """Return the exceptions that telethon and python-socks raise."""
    errors = telethon.errors
    return (
        errors.RPCError,
        errors.SecurityError,
        errors.InvalidBufferError,
        errors.InvalidChecksumError,
        errors.TypeNotFoundError,
        errors.BadMessageError,
        errors.AuthKeyNotFound,
        _proxy_error(),
        OSError,
        asyncio.IncompleteReadError,
    )


def _proxy_error() -> type[Exception]:
    """Return the exception that python-socks raises when the egress guard refuses."""
    error: type[Exception] = importlib.import_module("python_socks").ProxyError
    return error


def _flooded(exc: Any) -> Failure:
    wait = timedelta(seconds=max(1, getattr(exc, "seconds", 0) or 0))
    return Failure(
        reason_pb2.REASON_RATE_LIMITED,
        f"Telegram tells the account to wait for {wait.total_seconds():g} s.",
        metadata={"http_status": "420"},
        retry_after=min(wait, _LONGEST_WAIT),
    )


def withheld(_: object = None) -> Failure:
    """Return the failure of a channel that the account may not read."""
    return Failure(
        reason_pb2.REASON_PRIVATE,
        "The account of INGOT_TELEGRAM_SESSION is not a member of the channel, or may not read it.",
    )


def _absent(_: object = None) -> Failure:
    return Failure(reason_pb2.REASON_MEDIA_DOES_NOT_EXIST, "Telegram has no such message.")


def _application_refused(_: object = None) -> Failure:
    return not_configured(
        "telegram_api_id",
        "Telegram refuses INGOT_TELEGRAM_API_ID with INGOT_TELEGRAM_API_HASH. Take both from "
        "my.telegram.org.",
    )


def session_refused(_: object = None) -> Failure:
    """Return the failure of a session that Telegram does not accept."""
    return not_configured(
        "telegram_session",
        "Telegram does not accept INGOT_TELEGRAM_SESSION: it was ended, or used from two addresses "
        "at once. Make a new one.",
    )


_TRANSLATIONS: Final[tuple[tuple[tuple[str, ...], Callable[[object], Failure]], ...]] = (
    (
        ("ApiIdInvalidError", "ApiIdPublishedFloodError", "ConnectionApiIdInvalidError"),
        _application_refused,
    ),
    (("FloodError",), _flooded),
    (
        (
            "ChannelPrivateError",
            "ChannelInvalidError",
            "ChannelBannedError",
            "ChatForbiddenError",
            "ChatAdminRequiredError",
            "ChatRestrictedError",
            "UserBannedInChannelError",
            "UserNotParticipantError",
        ),
        withheld,
    ),
    (("MessageIdInvalidError", "MessageIdsEmptyError"), _absent),
    (("UnauthorizedError", "AuthKeyError", "AuthKeyNotFound"), session_refused),
)
"""The first match wins. The names are those of telethon.errors."""
