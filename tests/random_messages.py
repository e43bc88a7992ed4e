"""Random messages of the contract, valid and invalid."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

_DEPTH: Final = 4
# What means something to some part of the server, or to a parser below it.
TEXTS: Final = (
    *("", " ", "\0", "a", "é", "\u202e", "😀", "..", "-", "%00", "%", "a" * 300, "a" * 9000),
    *("http://127.0.0.1:9000/a.mp4", "http://127.0.0.1", "http://[::1", "http://a:b@c/", "//a"),
    *("http://10.0.0.1/", "http://0x7f.1/", "http://localhost.:65536/", "https://xn--/"),
    *("s3://ingot/a.mp4", "s3://", "s3://a/../b", "gs://a/b", "s3://ingot/journal/a"),
    *("upload-id:a", "upload:a", "telegram://file/a", "file:///etc/passwd", "http://é/"),
    *("cached-ingest-" + "a" * 52, "a" * 52, "a" * 26, "en", "en-GB", "x-", "und"),
    *("title", "labels", "*", "media.title", "64px", "Og==", "==", "\ud7ff", "a\r\nb: c"),
)
_INT32: Final = (0, 1, -1, 2, 16, 50, 1000, 1 << 20, (1 << 31) - 1, -(1 << 31))
_INT64: Final = (*_INT32, 1 << 40, (1 << 63) - 1, -(1 << 63), 253402300799, 315576000000)
_FLOATS: Final = (0.0, -0.0, 1.5, -1.0, float("nan"), float("inf"), -float("inf"))
_SCALARS: Final[dict[int, Callable[[Random], Any]]] = {
    FieldDescriptor.CPPTYPE_INT32: lambda source: source.choice(_INT32),
    FieldDescriptor.CPPTYPE_INT64: lambda source: source.choice(_INT64),
    FieldDescriptor.CPPTYPE_UINT32: lambda source: source.choice([0, 1, (1 << 32) - 1]),
    FieldDescriptor.CPPTYPE_UINT64: lambda source: source.choice([0, 1, (1 << 64) - 1]),
    FieldDescriptor.CPPTYPE_BOOL: lambda source: source.random() < 0.5,
    FieldDescriptor.CPPTYPE_DOUBLE: lambda source: source.choice(_FLOATS),
    FieldDescriptor.CPPTYPE_FLOAT: lambda source: source.choice(_FLOATS),
}


def random_message(kind: Descriptor, source: Random, depth: int = _DEPTH) -> Message:
    """Return a message with some fields set, to anything that the wire can carry."""
    message = GetMessageClass(kind)()
    for field in source.sample(list(kind.fields), min(len(kind.fields), source.randrange(6))):
        if depth or field.message_type is None:
            _set(message, field, source, depth)
    return message


def _set(message: Message, field: FieldDescriptor, source: Random, depth: int) -> None:
    target = getattr(message, field.name)
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        key, value = kind.fields
        for _ in range(source.randrange(3)):
            if value.message_type is None:
                target[_scalar(key, source)] = _scalar(value, source)
            else:
                made = random_message(value.message_type, source, depth - 1)
                target[_scalar(key, source)].CopyFrom(made)
    elif field.is_repeated:
        for _ in range(source.randrange(4)):
            target.append(
                _scalar(field, source) if kind is None else random_message(kind, source, depth - 1)
            )
    elif kind is not None:
        target.CopyFrom(random_message(kind, source, depth - 1))
        target.SetInParent()
    else:
        setattr(message, field.name, _scalar(field, source))


def _scalar(field: FieldDescriptor, source: Random) -> Any:
    if field.enum_type is not None:
        return source.choice([*(value.number for value in field.enum_type.values), 99, -1])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return source.randbytes(source.randrange(16))
    if field.type == FieldDescriptor.TYPE_STRING:
        return source.choice(TEXTS)
    return _SCALARS[field.cpp_type](source)
