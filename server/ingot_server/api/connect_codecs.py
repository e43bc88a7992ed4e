"""The codecs of calls over HTTP.

They let `connectrpc` carry Google's messages, and responses that are already serialized.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError, Message

from ingot_server.api.caller import Serialized
from ingot_server.api.calls import malformed
from ingot_server.api.connect_errors import CallError
from ingot_server.api.json_request import parse_json
from ingot_server.errors import Failure


@dataclass(frozen=True, slots=True)
class Response:
    """The response of a service, and its message class."""

    response_class: type[Message]
    content: Message | Serialized


class BinaryCodec:
    """Protobuf. As everywhere in it, a field of a newer contract is not an error."""

    def name(self) -> str:
        return "proto"

    def encode(self, message: Response) -> bytes:
        content = message.content
        return content if isinstance(content, bytes) else content.SerializeToString()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        try:
            return message_class.FromString(bytes(data))
        except DecodeError as error:
            raise CallError(malformed(message_class, error)) from error


class JsonCodec:
    """Protobuf JSON. All watchers of a job get the same bytes, so the last ones are cached."""

    def __init__(self) -> None:
        self._last: tuple[Serialized, bytes] = (b"", b"{}")

    def name(self) -> str:
        return "json"

    def encode(self, message: Response) -> bytes:
        content = message.content
        if not isinstance(content, bytes):
            return _json(content)
        if content is not self._last[0]:
            self._last = content, _json(message.response_class.FromString(content))
        return self._last[1]

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        try:
            return parse_json(bytes(data), message_class)
        except Failure as failure:
            raise CallError(failure) from failure


def _json(message: Message) -> bytes:
    return MessageToJson(message, indent=None, ensure_ascii=False).encode()
