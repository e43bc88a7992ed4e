"""Writes the OpenAPI document of the JSON side from proto/.

    python docs/generate_openapi.py [FILE]

The paths and errors are those of the Connect protocol (https://connectrpc.com/docs/protocol), the
schemas those of protobuf's JSON (https://protobuf.dev/programming-guides/json/), with the rules of
the contract. The document is committed, and CI compares it with what this generates.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from described_contract import (
    ENUM_VALUE,
    FILE_ENUM,
    FILE_MESSAGE,
    FILE_SERVICE,
    MESSAGE_ENUM,
    MESSAGE_FIELD,
    MESSAGE_NESTED,
    PACKAGE,
    ROOT,
    SERVICE_METHOD,
    Comments,
    Contract,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    MethodOptions,
)
from google.protobuf.message import Message
from google.rpc import code_pb2

Schema = dict[str, Any]

_STREAM: Final = (
    "A stream: five bytes precede each message, see https://connectrpc.com/docs/protocol. "
    "This schema is that of one message."
)
_SCALARS: Final[dict[int, Schema]] = {
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptorProto.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptorProto.TYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
# Messages with a JSON form of their own, and the one that says what went wrong.
_WELL_KNOWN: Final[dict[str, Schema]] = {
    ".google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$",
        "examples": ["90s", "0.5s"],
    },
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.FieldMask": {"type": "string", "examples": ["title,labels"]},
    ".google.rpc.Status": {"$ref": "#/components/schemas/Status"},
}
_STATUS: Final[Schema] = {
    "type": "object",
    "description": "A google.rpc.Status: what a job or one of several requests failed with.",
    "properties": {
        "code": {"type": "integer", "description": "The number of the code (google.rpc.Code)."},
        "message": {"type": "string", "description": "What happened, and what to do."},
        "details": {
            "type": "array",
            "description": "One of them is the google.rpc.ErrorInfo, with the reason.",
            "items": {"type": "object", "properties": {"@type": {"type": "string"}}},
        },
    },
}
_ERROR: Final[Schema] = {
    "type": "object",
    "description": "An error of a call.",
    "required": ["code", "message", "details"],
    "properties": {
        "code": {
            "type": "string",
            "description": "The code in Connect's spelling.",
            "enum": [
                "canceled" if name == "CANCELLED" else name.lower()
                for name in code_pb2.Code.keys()
                if name != "OK"
            ],
        },
        "message": {"type": "string", "description": "What happened, and what to do."},
        "details": {
            "type": "array",
            "description": "One of them is the google.rpc.ErrorInfo, with the reason.",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "description": "The name of the message."},
                    "value": {"type": "string", "description": "The message, as base64."},
                    "debug": {"type": "object", "description": "The message, as JSON."},
                },
            },
        },
    },
}
_TIMEOUT: Final[Schema] = {
    "name": "Connect-Timeout-Ms",
    "in": "header",
    "description": "Milliseconds until the call ends with `deadline_exceeded`.",
    "schema": {"type": "integer", "minimum": 1},
}


class Document:
    """The OpenAPI document."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._schemas: dict[str, Schema] = {"Error": _ERROR, "Status": _STATUS}
        self._paths: dict[str, Schema] = {}
        self._tags: list[Schema] = []
        self._entries = {
            f"{PACKAGE}{message.name}.{nested.name}": nested
            for file in contract.files
            for message in file.message_type
            for nested in message.nested_type
            if nested.options.map_entry
        }
        for file in contract.files:
            self._add(file, Comments(file))

    def content(self) -> Schema:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Ingot",
                "version": project["version"],
                "summary": "Media ingest: a URL or a file in, a stored blob with metadata out.",
                "description": "Each method of the gRPC services, as JSON over HTTP. Fields of "
                "requests also have the names of the contract, such as `media_id`; 64-bit numbers "
                "may be numbers in requests. Fields that are unset are absent from responses.",
            },
            "servers": [{"url": "/"}],
            "tags": self._tags,
            "paths": self._paths,
            "components": {
                "schemas": dict(sorted(self._schemas.items())),
                "parameters": {"Timeout": _TIMEOUT},
                "responses": {
                    "Error": {
                        "description": "The call failed. The status follows from the code.",
                        "content": {"application/json": {"schema": _ref("Error")}},
                    }
                },
            },
        }

    def _add(self, file: FileDescriptorProto, comments: Comments) -> None:
        for number, service in enumerate(file.service):
            text = comments.paragraphs(FILE_SERVICE, number)
            self._tags.append({"name": service.name, "description": text})
            for at, method in enumerate(service.method):
                text = comments.paragraphs(FILE_SERVICE, number, SERVICE_METHOD, at)
                path = f"/{file.package}.{service.name}/{method.name}"
                text += f"\n\nIts callers need the scope `{self._contract.scope(method)}`."
                self._paths[path] = dict(_operations(service.name, method, text))
        for number, message in enumerate(file.message_type):
            self._add_message(message, message.name, comments, (FILE_MESSAGE, number))
        for number, enum in enumerate(file.enum_type):
            self._schemas[enum.name] = _enum(enum, comments, (FILE_ENUM, number))

    def _add_message(
        self, message: DescriptorProto, name: str, comments: Comments, path: tuple[int, ...]
    ) -> None:
        schema: Schema = {"type": "object", "description": comments.paragraphs(*path)}
        properties, required = {}, []
        for number, field in enumerate(message.field):
            rules = self._contract.field_rules(field)
            described = {"description": comments.paragraphs(*path, MESSAGE_FIELD, number)}
            properties[field.json_name] = {**self._field(field, rules), **described}
            if _is_required(field, rules):
                required.append(field.json_name)
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        choices = [
            {"oneOf": [{"required": [field.json_name]} for field in _members(message, number)]}
            for number in range(len(message.oneof_decl))
            if self._contract.requires(message, number)
        ]
        if choices:
            schema |= choices[0] if len(choices) == 1 else {"allOf": choices}
        self._schemas[name] = schema
        for number, nested in enumerate(message.nested_type):
            if not nested.options.map_entry:
                inner = (*path, MESSAGE_NESTED, number)
                self._add_message(nested, f"{name}.{nested.name}", comments, inner)
        for number, enum in enumerate(message.enum_type):
            inner = (*path, MESSAGE_ENUM, number)
            self._schemas[f"{name}.{enum.name}"] = _enum(enum, comments, inner)

    def _field(self, field: FieldDescriptorProto, rules: Message) -> Schema:
        entry = self._entries.get(field.type_name)
        if entry is not None:
            keys, values = (self._type(each) for each in entry.field)
            return {
                "type": "object",
                "propertyNames": keys | _limits(_part(rules, "map", "keys"), keys),
                "additionalProperties": values | _limits(_part(rules, "map", "values"), values),
                **_counts(rules, "map", "min_pairs", "minProperties"),
                **_counts(rules, "map", "max_pairs", "maxProperties"),
            }
        kind = self._type(field)
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return {
                "type": "array",
                "items": kind | _limits(_part(rules, "repeated", "items"), kind),
                **_counts(rules, "repeated", "min_items", "minItems"),
                **_counts(rules, "repeated", "max_items", "maxItems"),
            }
        return kind | _limits(rules, kind)

    @staticmethod
    def _type(field: FieldDescriptorProto) -> Schema:
        if not field.type_name:
            return dict(_SCALARS[field.type])
        if field.type_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[field.type_name])
        return _ref(field.type_name.removeprefix(PACKAGE))


def _operations(service: str, method: MethodDescriptorProto, text: str) -> Iterator[Any]:
    """Yield the HTTP methods of a method, with what they take and return."""
    request, response = (
        name.removeprefix(PACKAGE) for name in (method.input_type, method.output_type)
    )
    streams = method.client_streaming or method.server_streaming
    kind = "application/connect+json" if streams else "application/json"
    summary = text.split(". ")[0].split("\n")[0].removesuffix(".") + "."
    operation = {
        "tags": [service],
        "summary": summary,
        "description": f"{text}\n\n{_STREAM}" if streams else text,
        "responses": {
            "200": {"description": "OK.", "content": {kind: {"schema": _ref(response)}}},
            # The error of a stream is its last message.
            **({} if streams else {"default": {"$ref": "#/components/responses/Error"}}),
        },
    }
    timeout = {"$ref": "#/components/parameters/Timeout"}
    yield (
        "post",
        {
            "operationId": f"{service}_{method.name}",
            **operation,
            "parameters": [timeout],
            "requestBody": {"required": True, "content": {kind: {"schema": _ref(request)}}},
        },
    )
    if method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS and not streams:
        message = {"application/json": {"schema": _ref(request)}}
        encoding = {"type": "string", "const": "json"}
        yield (
            "get",
            {
                "operationId": f"{service}_{method.name}_get",
                **operation,
                "parameters": [
                    timeout,
                    {"name": "encoding", "in": "query", "required": True, "schema": encoding},
                    {"name": "message", "in": "query", "required": True, "content": message},
                ],
            },
        )


def _enum(enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> Schema:
    values = "\n".join(
        f"- `{value.name}`: {comments.line(*path, ENUM_VALUE, number)}"
        for number, value in enumerate(enum.value)
    )
    return {
        "type": "string",
        "description": f"{comments.paragraphs(*path)}\n\n{values}",
        "enum": [value.name for value in enum.value],
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _members(message: DescriptorProto, oneof: int) -> list[FieldDescriptorProto]:
    return [
        field
        for field in message.field
        if field.HasField("oneof_index")
        and field.oneof_index == oneof
        and not field.proto3_optional
    ]


def _is_required(field: FieldDescriptorProto, rules: Message) -> bool:
    """Return whether a request without the field is refused."""
    if field.HasField("oneof_index"):
        return False
    minimum = any(
        limit.HasField(name)
        for kind, limit in rules.ListFields()
        if isinstance(limit, Message)
        for name in ("min_len", "min_items")
        if name in limit.DESCRIPTOR.fields_by_name
    )
    return minimum or bool(rules.required)


def _part(rules: Message, kind: str, part: str) -> Message | None:
    """Return the rules of the items of a list, or of the keys or values of a map."""
    if not rules.HasField(kind):
        return None
    found: Message = getattr(getattr(rules, kind), part)
    return found


def _counts(rules: Message, kind: str, rule: str, keyword: str) -> Schema:
    found = getattr(rules, kind)
    return {keyword: getattr(found, rule)} if found.HasField(rule) else {}


_KEYWORDS: Final = {
    "min_len": "minLength",
    "max_len": "maxLength",
    "pattern": "pattern",
    "gte": "minimum",
    "gt": "exclusiveMinimum",
    "lte": "maximum",
    "lt": "exclusiveMaximum",
    "in": "enum",
}


def _limits(rules: Message | None, kind: Schema) -> Schema:
    """Return the rules of a string or number as JSON Schema. The others are in the comment."""
    if rules is None or kind.get("type") not in {"string", "integer", "number"}:
        return {}
    found: Schema = {}
    for _, limit in rules.ListFields():
        if not isinstance(limit, Message) or limit.DESCRIPTOR.name in {
            *("DurationRules", "FieldMaskRules", "Int64Rules", "BytesRules", "EnumRules")
        }:
            continue
        for rule, value in limit.ListFields():
            if keyword := _KEYWORDS.get(rule.name):
                found[keyword] = list(value) if rule.is_repeated else value
    return found


def main(path: Path) -> None:
    content = Document(Contract.built()).content()
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else ROOT / "server" / "ingot_server" / "api" / "openapi.json"
    )
