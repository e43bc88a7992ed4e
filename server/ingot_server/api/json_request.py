"""Requests in JSON. Everything in them is understood or refused; nothing is ignored.

protobuf's own parser skips unknown fields and enum values when asked to, and then takes the request
as if they were unset: a misspelled `validate_only` would start the download. Its strict mode stops
at the first error and names Python's types. So each request is compared with the contract first,
in the contract's words, and then parsed in strict mode.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, TypeVar

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ingot.v1 import reason_pb2
from ingot_server.api.calls import malformed
from ingot_server.api.status import VIOLATIONS, enum_values, invalid
from ingot_server.errors import Failure

Request = TypeVar("Request", bound=Message)

# Longer names are not compared with those of the fields: that takes quadratic time.
_NAME_LENGTH: Final = 64

_INTEGERS: Final = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64}
    | {FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64}
)
# What the messages with a JSON form of their own look like.
_FORMS: Final = {
    "google.protobuf.Duration": 'a duration in seconds, such as "90s" or "1.5s"',
    "google.protobuf.Timestamp": 'a time in RFC 3339, such as "2026-01-31T12:00:00Z"',
    "google.protobuf.FieldMask": 'names of fields with commas between them, as in "title,tags"',
}


def parse_json(data: bytes, message_class: type[Request]) -> Request:
    """Return the request in protobuf's JSON. Fields may have the contract's names or camelCase.

    Raises Failure INVALID_REQUEST, with a violation for each wrong field, if the body is not one
    JSON object, or if it has an unknown field, an unknown value, or a value of a wrong type.
    """
    body = _load(data)
    found = _of_message(body, message_class.DESCRIPTOR, "")  # type: ignore[arg-type]
    violations = dict(islice(found, VIOLATIONS))
    if violations:
        raise invalid(violations)
    request = message_class()
    try:
        ParseDict(body, request)
    except (ParseError, ValueError, TypeError) as error:
        raise malformed(message_class, error) from error
    return request


def _load(data: bytes) -> Any:
    if not data:
        raise _not_json("The body is empty. Send a JSON object; `{}` sets no field.")
    try:
        text = data.decode()
        body = json.loads(text, object_pairs_hook=_without_duplicates)
        if "\\u" in text:
            # JSON can escape half of a surrogate pair, which protobuf does not accept.
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise _not_json(
            "The body is not UTF-8, or has an escape that is not a character. Send UTF-8."
        ) from error
    except RecursionError as error:
        raise _not_json("The JSON of the body is nested too deeply.") from error
    except ValueError as error:
        raise _not_json(f"The body is not JSON: {error}. Send one JSON object.") from error
    return body


def _not_json(message: str) -> Failure:
    return Failure(reason_pb2.REASON_INVALID_REQUEST, message)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice!r} appears twice in one object")
    return found


_Violations = Iterator[tuple[str, str]]
"""The path of a field, and what is wrong with it, as in google.rpc.BadRequest."""


def _of_message(value: Any, descriptor: Descriptor, path: str) -> _Violations:
    if not isinstance(value, dict):
        yield path or "request", "must be a JSON object"
        return
    given: dict[str, str] = {}
    chosen: dict[str, str] = {}
    for name, content in value.items():
        at = f"{path}.{name}" if path else name
        field = descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)
        if field is None:
            yield at, _unknown(name, descriptor)
            continue
        at = f"{path}.{field.name}" if path else field.name
        if field.name in given:
            yield at, f"is given twice, as {given[field.name]} and as {name}"
            continue
        given[field.name] = name
        if content is None:
            continue
        oneof = field.containing_oneof
        if oneof is not None and chosen.setdefault(oneof.name, field.name) != field.name:
            yield at, f"cannot be set together with {chosen[oneof.name]}"
            continue
        yield from _of_field(content, field, at)


def _of_field(value: Any, field: FieldDescriptor, path: str) -> _Violations:
    if item := _map_value(field):
        if not isinstance(value, dict):
            yield path, "must be a JSON object"
            return
        for key, each in value.items():
            yield from _of_item(each, item, f"{path}[{key!r}]")
    elif field.is_repeated:
        if not isinstance(value, list):
            yield path, "must be a list"
            return
        for index, each in enumerate(value):
            yield from _of_item(each, field, f"{path}[{index}]")
    else:
        yield from _of_item(value, field, path)


def _of_item(value: Any, field: FieldDescriptor, path: str) -> _Violations:
    """Yield the violations of one value: of the field, or of one item of a list or map."""
    if value is None:
        yield path, "must not be null"
    elif field.message_type is not None and field.message_type.full_name not in _FORMS:
        yield from _of_message(value, field.message_type, path)
    elif field.enum_type is not None:
        if not _is_value(value, field.enum_type):
            yield path, f"must be {enum_values(field.enum_type)}, not {_written(value)}"
    elif not _fits(value, field):
        yield path, f"must be {_form(field)}, not {_written(value)}"


def _map_value(field: FieldDescriptor) -> FieldDescriptor | None:
    """Return the field of a map's values, or None if the field is not a map."""
    entry = field.message_type
    is_map = field.is_repeated and entry is not None and entry.GetOptions().map_entry
    return entry.fields_by_name["value"] if entry is not None and is_map else None


def _is_value(value: Any, enum: EnumDescriptor) -> bool:
    if isinstance(value, str):
        return value in enum.values_by_name
    return type(value) is int and value in enum.values_by_number


def _fits(value: Any, field: FieldDescriptor) -> bool:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        # Not decoded here: these may be the bytes of an upload.
        return isinstance(value, str)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return isinstance(value, bool)
    assert field.containing_type is not None, "fields of messages, not extensions"
    message = GetMessageClass(field.containing_type)()
    try:
        ParseDict({field.name: [value] if field.is_repeated else value}, message)
    except (ParseError, ValueError, TypeError):
        return False
    return True


def _form(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return _FORMS[field.message_type.full_name]
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "bytes in base64"
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return "text"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return "true or false"
    return "a whole number in its range" if field.cpp_type in _INTEGERS else "a number"


def _written(value: Any) -> str:
    """Return the value as its caller wrote it. Only the beginning of a long one."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return json.dumps(value[:_NAME_LENGTH] if isinstance(value, str) else value, ensure_ascii=False)


def _unknown(name: str, descriptor: Descriptor) -> str:
    names = [field.name for field in descriptor.fields]
    alike = difflib.get_close_matches(name[:_NAME_LENGTH].lower(), names, 1)
    if alike:
        return f"is not a field; the one most like it is {alike[0]}"
    return f"is not a field; {descriptor.name} has {', '.join(names) or 'no fields'}"
