"""Server reflection, from which grpcurl and buf curl get the contract without its files.

The stubs do not import the validation rules, see clients/without-rules-import. The import is put
back here, in a pool of its own, so that `describe` shows the rules of each field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from importlib.resources import files
from typing import Any, Final

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_reflection.v1alpha import reflection, reflection_pb2

from ingot_server.api.guarded_health import RequireCaller

SERVICE_V1: Final = "grpc.reflection.v1.ServerReflection"

_CONTRACT: Final = "ingot/"
_RULES: Final = "buf/validate/validate.proto"
# No message of the contract has these as a field, but statuses carry them.
_DETAILS: Final = (ErrorInfo.DESCRIPTOR.full_name,)


def add_reflection(
    services: Sequence[str], server: grpc.aio.Server, require: RequireCaller
) -> None:
    """Serve the descriptors of `services`, which are full names, and their dependencies.

    `require` aborts the calls of those who may not see them.
    """
    names = (*services, reflection.SERVICE_NAME)
    servicer = reflection.aio.ReflectionServicer(names, pool=_Pool(_with_rules(names)))

    async def info(requests: Any, context: Any) -> AsyncIterator[Any]:
        await require("reflection", context)
        responses: Any = servicer.ServerReflectionInfo(requests, context)
        async for response in responses:
            yield response

    method = grpc.stream_stream_rpc_method_handler(
        info,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    # grpcio has only v1alpha. The messages of v1 are the same, and tools try v1 first.
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in (SERVICE_V1, reflection.SERVICE_NAME)
        ]
    )


def _with_rules(services: Sequence[str]) -> DescriptorPool:
    """Return a pool of the files of `services`, in which the contract imports the rules."""
    data = files(__package__).joinpath("validate.binpb").read_bytes()
    rules = {file.name: file for file in FileDescriptorSet.FromString(data).file}
    pool, known = DescriptorPool(), set[str]()

    def add(name: str) -> None:
        if name not in known:
            known.add(name)
            file = rules.get(name) or _file(name)
            for each in file.dependency:
                add(each)
            pool.Add(file)

    for symbol in (*services, *_DETAILS):
        add(descriptor_pool.Default().FindFileContainingSymbol(symbol).name)
    return pool


def _file(name: str) -> FileDescriptorProto:
    found = descriptor_pool.Default().FindFileByName(name)
    file = FileDescriptorProto.FromString(found.serialized_pb)
    if name.startswith(_CONTRACT):
        file.dependency.append(_RULES)
    return file


class _Pool:
    """A descriptor pool that also finds methods, as the protocol requires; protobuf's does not."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return found.file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)
