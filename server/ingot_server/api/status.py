"""How a call's failure is answered: validation, Failure and gRPC's status, in one place.

A status travels in HTTP/2 trailers, of which most peers take 8 KiB. So what callers and sources
put into messages is cut: an error must arrive, whatever the URL in it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from typing import Any, Final

import grpc
import protovalidate
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot_server.errors import Failure, Treatment

logger = logging.getLogger(__name__)

DETAILS_KEY: Final = "grpc-status-details-bin"

_MESSAGE_BYTES: Final = 768
_METADATA_BYTES: Final = 256
_FIELD_BYTES: Final = 96
_DESCRIPTION_BYTES: Final = 192
_VIOLATIONS: Final = 8

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

# A pattern says nothing to a person; these say what it asks for.
_PATTERNS: Final = {
    "labels": "must begin and end with a lower-case letter or a digit and may hold `.`, `_`, `-` "
    "and `/` between them",
    "request_id": "may hold letters, digits, `.`, `_` and `-` only",
    "sha256": "must be a SHA-256 in lower-case hexadecimal, 64 digits",
    "subtitle_languages": "must be the tag of a language, such as `en` or `pt-BR`",
}
_RULES: Final = {
    "required": "must be set",
    "enum.defined_only": "must be one of the contract's values",
    "enum.not_in": "must not be the unspecified value",
}

_validator: Final = protovalidate.Validator()


class OutOfRange(Failure):
    """A position past the end of what is there: INVALID_REQUEST that depends on the stored state.

    AIP-193 keeps OUT_OF_RANGE for it, so that a caller who reads on can tell where the end is.
    """

    @property
    def treatment(self) -> Treatment:
        return Treatment(code_pb2.OUT_OF_RANGE)


def check(request: Message) -> None:
    """Raises Failure with INVALID_REQUEST and each field's violations when a rule is broken."""
    found = _validator.collect_violations(request)
    if found:
        violations = dict(_in_words(violation.proto) for violation in found)
        raise invalid(violations)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises Failure with INVALID_REQUEST for labels that Ingest would not take either."""
    if labels:
        check(IngestRequest(url="any:", labels=labels))


def invalid(violations: Mapping[str, str]) -> Failure:
    """The failure of a request whose fields, given by path, are wrong as described."""
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        "The request is not valid: "
        + "; ".join(f"{field} {description}" for field, description in violations.items())
        + ".",
        violations=violations,
    )


def unexpected(method: str, error: Exception) -> Failure:
    """The failure of a call that met a defect: logged here, once, and told without internals."""
    correlation_id = secrets.token_hex(8)
    logger.error("%s failed, correlation_id=%s", method, correlation_id, exc_info=error)
    return Failure(
        reason_pb2.REASON_INTERNAL,
        "Ingot has a defect. Please report it with the correlation id "
        f"{correlation_id}, under which the server's log has the cause.",
        metadata={"correlation_id": correlation_id},
    )


def status_of(failure: Failure) -> Status:
    """The failure as google.rpc.Status, in a size that arrives."""
    return _cut(failure).status()


def answer(failure: Failure) -> tuple[grpc.StatusCode, str, bytes]:
    """The failure as gRPC's code and message, and as the serialized google.rpc.Status."""
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
            for field, description in list(failure.violations.items())[:_VIOLATIONS]
        },
        retry_after=failure.retry_after,
    )


def _clip(text: str, limit: int) -> str:
    """`text` in at most `limit` bytes of printable UTF-8, its end replaced where it is longer."""
    text = "".join(character if character.isprintable() else " " for character in text)
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    return encoded[: limit - 3].decode(errors="ignore") + "..."


def _in_words(violation: Any) -> tuple[str, str]:
    """A buf.validate.Violation as the field's path and what is wrong with it."""
    elements = violation.field.elements if violation.field is not None else ()
    path = ".".join(_element(element) for element in elements)
    name = elements[-1].field_name if elements else ""
    rule = violation.rule_id
    if rule == "required" and name == "name":
        return "name", "must be given: set exactly one of media_id and url"
    if rule == "string.min_len":
        words = "must not be empty"
    elif rule == "string.pattern":
        words = _PATTERNS.get(name, violation.message)
    else:
        words = _RULES.get(rule, violation.message)
    return path or "request", f"(the key) {words}" if violation.for_key else words


def _element(element: Any) -> str:
    if element.subscript is None:
        return str(element.field_name)
    value = element.subscript.value
    return (
        f"{element.field_name}[{value!r}]"
        if isinstance(value, str)
        else f"{element.field_name}[{value}]"
    )
