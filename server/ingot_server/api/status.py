"""Validation of requests, and the statuses of failed calls.

A status travels in HTTP/2 trailers, which most peers limit to 8 KiB. So long texts of callers and
sources are cut: an error must arrive, however long the URL in it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

import grpc
import protovalidate
from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from ingot.v1 import reason_pb2
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.times import invalid_times
from ingot_server.errors import Failure, Treatment
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event

logger = EventLogger(__name__)

DETAILS_KEY: Final = "grpc-status-details-bin"

_MESSAGE_BYTES: Final = 768
_METADATA_BYTES: Final = 256
_FIELD_BYTES: Final = 96
_DESCRIPTION_BYTES: Final = 256
VIOLATIONS: Final = 8
"""How many violations a status has at most."""

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

# A regular expression means nothing to most people, so these texts describe the patterns.
_PATTERNS: Final = {
    "audio_language": "must be a language tag, such as `en` or `pt-BR`",
    "labels": "must begin and end with a lower-case letter or a digit, and may have `.`, `_`, `-` "
    "and `/` in between",
    "request_id": "may only have letters, digits, `.`, `_` and `-`",
    "subscription_id": "must be the id of a subscription: lower-case letters and digits",
    "sha256": "must be a SHA-256 of 64 lower-case hexadecimal digits",
    "subtitle_languages": "must be a language tag, such as `en` or `pt-BR`",
}
_RULES: Final = {
    "required": "must be set",
    "repeated.unique": "must not have the same value twice",
    "string.min_len": "must not be empty",
}

_validator: Final = protovalidate.Validator()


class OutOfRange(Failure):
    """INVALID_REQUEST for a position past the end of a stored file.

    Its code is OUT_OF_RANGE (AIP-193), so that a caller that keeps reading can detect the end.
    """

    @property
    def treatment(self) -> Treatment:
        return Treatment(code_pb2.OUT_OF_RANGE)


def check(request: Message) -> None:
    """Raise Failure INVALID_REQUEST, with each field's violation, if a rule is broken."""
    # First, because such values have no JSON, no calendar and no sum, also for the rules.
    times = dict(islice(invalid_times(request), VIOLATIONS))
    if times:
        raise invalid(times)
    found = _validator.collect_violations(request)
    if found:
        raise invalid(dict(_in_words(violation.proto, request) for violation in found))


def invalid(violations: Mapping[str, str]) -> Failure:
    """Return the failure of a request. `violations` maps the paths of fields to descriptions."""
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        "The request is invalid: "
        + "; ".join(f"{field} {description}" for field, description in violations.items())
        + ".",
        violations=violations,
    )


def unexpected(method: str, error: Exception) -> Failure:
    """Return the failure of a call that met a defect. Log the cause, which stays in the server."""
    correlation_id = secrets.token_hex(8)
    logger.error(
        Event.CALL_FAILED,
        "%s failed, correlation_id=%s",
        method,
        correlation_id,
        exc_info=error,
        method=method,
        correlation_id=correlation_id,
    )
    return Failure(
        reason_pb2.REASON_INTERNAL,
        "The server failed because of a defect in Ingot. Report it with the lines of the server's "
        f"log that have the correlation id {correlation_id}.",
        metadata={"correlation_id": correlation_id},
    )


def status_of(failure: Failure) -> Status:
    """Return the failure as google.rpc.Status, cut to a size that peers accept."""
    return _cut(failure).status()


def grpc_error(failure: Failure) -> tuple[grpc.StatusCode, str, bytes]:
    """Return the failure as gRPC code, message, and serialized google.rpc.Status."""
    status = status_of(failure)
    return _CODES[status.code], status.message, status.SerializeToString()


def _cut(failure: Failure) -> Failure:
    kind = OutOfRange if isinstance(failure, OutOfRange) else Failure
    return kind(
        failure.reason,
        _clip(failure.message, _MESSAGE_BYTES),
        metadata={name: _clip(value, _METADATA_BYTES) for name, value in failure.metadata.items()},
        violations={
            _clip(field, _FIELD_BYTES): _clip(description, _DESCRIPTION_BYTES)
            for field, description in list(failure.violations.items())[:VIOLATIONS]
        },
        retry_after=failure.retry_after,
    )


def _clip(text: str, limit: int) -> str:
    """Return `text` as at most `limit` bytes of printable UTF-8; `...` replaces a cut end."""
    text = "".join(character if character.isprintable() else " " for character in text)
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 3].decode(errors="ignore") + "..."


def enum_values(enum: EnumDescriptor) -> str:
    """Return the names of the values that a caller may choose, as in `A, B or C`."""
    *names, last = [value.name for value in enum.values if value.number]
    return f"{', '.join(names)} or {last}" if names else last


def _in_words(violation: Any, request: Message) -> tuple[str, str]:
    """Return a buf.validate.Violation as the path of the field and a description."""
    elements = violation.field.elements if violation.field is not None else ()
    path = ".".join(_element(element) for element in elements)
    name = elements[-1].field_name if elements else ""
    rule = violation.rule_id
    if violation.rule is None and rule != "required":
        # A rule of a message. Its id begins with the field that it is about.
        return ".".join(filter(None, (path, rule.partition(".")[0]))), violation.message
    if rule == "required" and name == "name":
        return "name", "must be set: give either media_id or url"
    if rule == "required" and name == "format":
        formats = Recipe.DESCRIPTOR.oneofs_by_name[name].fields
        words = f"must be set: give one of {', '.join(field.name for field in formats)}"
    elif rule.startswith("enum.") and (enum := _enum(elements, request.DESCRIPTOR)):
        words = f"must be {enum_values(enum)}"
    elif rule.endswith(".in"):
        words = violation.message.replace("must be in list [", "must be one of ").rstrip("]")
    elif rule == "string.pattern":
        words = _PATTERNS.get(name, violation.message)
    else:
        words = _RULES.get(rule, violation.message)
    return path or "request", f"(the key) {words}" if violation.for_key else words


def _enum(elements: Iterable[Any], message: Any) -> EnumDescriptor | None:
    """Return the type of the enum field at the path, or None for another type."""
    enum: EnumDescriptor | None = None
    for element in elements:
        field = message.fields_by_name.get(element.field_name) if message else None
        if field is None:
            return None
        message, enum = field.message_type, field.enum_type
    return enum


def _element(element: Any) -> str:
    if element.subscript is None:
        return str(element.field_name)
    value = element.subscript.value
    return (
        f"{element.field_name}[{value!r}]"
        if isinstance(value, str)
        else f"{element.field_name}[{value}]"
    )
