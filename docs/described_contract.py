"""The contract as `buf build` describes it: files with comments, rules of fields, and scopes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass, GetMessageClassesForFiles

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ".ingot.v1."
# Numbers of the fields in descriptor.proto, from which the paths of comments are made.
FILE_MESSAGE, FILE_ENUM, FILE_SERVICE = 4, 5, 6
MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM = 2, 3, 4
ENUM_VALUE, SERVICE_METHOD = 2, 2


class Contract:
    """The files of `ingot.v1`, and the options in them."""

    def __init__(self, image: FileDescriptorSet) -> None:
        self.files = [file for file in image.file if file.package == "ingot.v1"]
        pool = DescriptorPool()
        for file in image.file:
            pool.Add(file)
        GetMessageClassesForFiles([file.name for file in image.file], pool)
        self._pool = pool

    @classmethod
    def built(cls) -> Contract:
        """Return what proto/ describes now."""
        build = ["buf", "build", "--path", "proto/ingot", "--as-file-descriptor-set"]
        image = subprocess.run(
            [*build, "--output", "-"], cwd=ROOT, check=True, capture_output=True
        ).stdout
        return cls(FileDescriptorSet.FromString(image))

    def field_rules(self, field: FieldDescriptorProto) -> Message:
        """Return protovalidate's rules of a field."""
        rules: Message = self._option(field.options, "FieldOptions", "buf.validate.field")
        return rules

    def requires(self, message: DescriptorProto, oneof: int) -> bool:
        """Return whether one of the fields of a oneof must be set."""
        options = message.oneof_decl[oneof].options
        return bool(self._option(options, "OneofOptions", "buf.validate.oneof").required)

    def scope(self, method: MethodDescriptorProto) -> str:
        """Return the scope that a caller of the method needs, as in a token: `read`."""
        number = self._option(method.options, "MethodOptions", "ingot.v1.required_scope")
        scopes = self._pool.FindEnumTypeByName("ingot.v1.Scope")
        name: str = scopes.values_by_number[number].name
        return name.removeprefix("SCOPE_").lower()

    def _option(self, options: Message, kind: str, extension: str) -> Any:
        # The options were parsed without the extensions, so they are parsed again with them.
        found = GetMessageClass(self._pool.FindMessageTypeByName(f"google.protobuf.{kind}"))
        described: Any = self._pool.FindExtensionByName(extension)
        return found.FromString(options.SerializeToString()).Extensions[described]


class Comments:
    """The comments of one file, by the paths of what they describe (descriptor.proto)."""

    def __init__(self, file: FileDescriptorProto) -> None:
        self._texts = {
            tuple(location.path): location.leading_comments.strip()
            for location in file.source_code_info.location
        }

    def paragraphs(self, *path: int) -> str:
        """Return a comment with each paragraph in one line."""
        return "\n\n".join(" ".join(each.split()) for each in self._texts[path].split("\n\n"))

    def line(self, *path: int) -> str:
        """Return a comment in one line."""
        return " ".join(self._texts[path].split())
