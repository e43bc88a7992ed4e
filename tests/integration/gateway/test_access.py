"""A server with tokens: who may call what, over gRPC, Connect and JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import aiohttp
import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import ingot.v1
from ingot import AccessDenied, Client
from ingot.v1.recipe_pb2 import Recipe
from ingot.v1.scope_pb2 import required_scope
from ingot_server.access_tokens import SCOPES, entry, new_token
from ingot_server.app import Addresses, running
from ingot_server.config import Settings
from tests.identity_provider import identity_provider, published, token
from tests.integration.gateway.running_gateway import GET_MEDIA, URL, frame, reason

pytestmark = pytest.mark.any_stores

TOKENS = {scope: new_token() for scope in SCOPES}


def methods() -> list[MethodDescriptor]:
    return [
        method
        for path in sorted(Path(ingot.v1.__path__[0]).glob("*_service_pb2.py"))
        for service in import_module(f"ingot.v1.{path.stem}").DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]


def scope_of(method: MethodDescriptor) -> str:
    number = method.GetOptions().Extensions[required_scope]
    return next(name for name, value in SCOPES.items() if value == number)


@dataclass
class Guarded:
    """A server that has a token for each scope."""

    addresses: Addresses
    http: aiohttp.ClientSession
    channel: grpc.aio.Channel

    async def grpc_reason(self, method: MethodDescriptor, token: str | None) -> str:
        """Call a method on gRPC with an empty request; return the reason of its error."""
        kind = ("stream" if method.client_streaming else "unary") + (
            "_stream" if method.server_streaming else "_unary"
        )
        call = getattr(self.channel, kind)(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        metadata = [("authorization", f"Bearer {token}")] if token else []
        request = GetMessageClass(method.input_type)()
        response = call(iter([request]) if method.client_streaming else request, metadata=metadata)
        try:
            if method.server_streaming:
                await anext(aiter(response))
            else:
                await response
        except grpc.aio.AioRpcError as error:
            return reason_of(error)
        return ""

    async def http_reason(self, method: MethodDescriptor, token: str | None) -> tuple[int, str]:
        """Call a method over Connect; return the status and the reason of its error."""
        streams = method.client_streaming or method.server_streaming
        headers = {"Content-Type": f"application/{'connect+' if streams else ''}json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        path = f"/{method.containing_service.full_name}/{method.name}"
        body = b"\0\0\0\0\2{}" if streams else b"{}"
        async with self.http.post(path, data=body, headers=headers) as response:
            if not streams:
                content = await response.json()
                return response.status, reason(content["details"]) if "code" in content else ""
            _, message = await frame(response)
            error = json.loads(message).get("error")
            return response.status, reason(error["details"]) if error else ""


def reason_of(error: grpc.aio.AioRpcError) -> str:
    [status] = [
        Status.FromString(value)
        for key, value in error.trailing_metadata() or ()
        if key == "grpc-status-details-bin"
    ]
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[Guarded]:
    entries = (entry(token, f"{scope}er", [scope], None) for scope, token in TOKENS.items())
    settings = settings.replace(tokens="".join(entries))
    async with (
        running(settings) as addresses,
        aiohttp.ClientSession(f"http://{addresses.http}") as http,
        grpc.aio.insecure_channel(addresses.grpc) as channel,
    ):
        yield Guarded(addresses, http, channel)


async def test_every_method_needs_its_scope_on_every_transport(guarded: Guarded) -> None:
    for method in methods():
        scope = scope_of(method)
        other = TOKENS["admin" if scope != "admin" else "read"]
        assert await guarded.grpc_reason(method, None) == "UNAUTHENTICATED", method.name
        assert await guarded.grpc_reason(method, "wrong") == "TOKEN_INVALID", method.name
        assert await guarded.grpc_reason(method, other) == "SCOPE_MISSING", method.name

        streams = method.client_streaming or method.server_streaming
        refused = 200 if streams else 401
        assert await guarded.http_reason(method, None) == (refused, "UNAUTHENTICATED"), method.name
        assert await guarded.http_reason(method, other) == (
            200 if streams else 403,
            "SCOPE_MISSING",
        ), method.name


async def test_a_caller_with_the_scope_gets_through(guarded: Guarded) -> None:
    denied = {"UNAUTHENTICATED", "TOKEN_INVALID", "SCOPE_MISSING"}
    for method in methods():
        token = TOKENS[scope_of(method)]
        assert await guarded.grpc_reason(method, token) not in denied, method.name
        assert (await guarded.http_reason(method, token))[1] not in denied, method.name


async def test_a_jwt_counts_on_every_transport(settings: Settings) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    async with (
        identity_provider(published(key, "first")) as provider,
        running(settings.replace(**provider.settings)) as addresses,
        aiohttp.ClientSession(f"http://{addresses.http}") as http,
        grpc.aio.insecure_channel(addresses.grpc) as channel,
    ):
        server = Guarded(addresses, http, channel)
        [listing] = [method for method in methods() if method.name == "ListMedia"]
        [deleting] = [method for method in methods() if method.name == "DeleteMedia"]
        right, strange = token(key), token(ec.generate_private_key(ec.SECP256R1()))

        assert await server.grpc_reason(listing, right) == ""
        assert await server.http_reason(listing, right) == (200, "")
        assert await server.grpc_reason(deleting, right) == "SCOPE_MISSING"
        assert await server.http_reason(deleting, right) == (403, "SCOPE_MISSING")
        assert await server.grpc_reason(listing, strange) == "TOKEN_INVALID"
        assert await server.http_reason(listing, strange) == (401, "TOKEN_INVALID")
        assert await server.grpc_reason(listing, None) == "UNAUTHENTICATED"
        async with http.post("/session", headers={"Authorization": f"Bearer {right}"}) as response:
            assert await response.json() == {"name": "recorder", "scopes": ["read", "ingest"]}


async def test_a_request_that_also_converts_needs_that_scope_too(guarded: Guarded) -> None:
    async with Client(guarded.addresses.grpc, token=TOKENS["ingest"]) as client:
        with pytest.raises(AccessDenied, match="convert"):
            await client.ingest_video(URL, recipes=[Recipe(mp3=Recipe.Mp3())])
        assert (await client.ingest_video(URL)).id
    async with Client(guarded.addresses.grpc, token=TOKENS["convert"]) as client:
        with pytest.raises(AccessDenied, match="ingest"):
            await client.convert(URL, Recipe(mp3=Recipe.Mp3()))


async def test_a_refused_call_says_how_to_authenticate_before_its_body(guarded: Guarded) -> None:
    host, _, port = guarded.addresses.http.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        f"POST {GET_MEDIA} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: 4000000\r\n\r\n".encode()
    )

    head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: bearer" in head.lower()
    writer.close()


async def test_a_setting_decides_about_health_and_reflection(settings: Settings) -> None:
    token = new_token()
    tokens = entry(token, "ci", ["read"], None)
    for opened in ("health", "reflection"):
        async with (
            running(settings.replace(tokens=tokens, open_services=opened)) as addresses,
            aiohttp.ClientSession(f"http://{addresses.http}") as http,
            grpc.aio.insecure_channel(addresses.grpc) as channel,
        ):
            for service, path, call in (
                ("health", "/healthz", _check),
                ("reflection", "/openapi.json", _reflect),
            ):
                async with http.get(path) as response:
                    assert response.status == (200 if service == opened else 401), path
                async with http.get(path, headers={"Authorization": f"Bearer {token}"}) as response:
                    assert response.status == 200, path
                await call(channel, token)
                if service == opened:
                    await call(channel, "")
                else:
                    with pytest.raises(grpc.aio.AioRpcError) as refused:
                        await call(channel, "")
                    assert reason_of(refused.value) == "UNAUTHENTICATED"


async def _check(channel: grpc.aio.Channel, token: str) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    await stub.Check(health_pb2.HealthCheckRequest(), metadata=_metadata(token))
    watch = stub.Watch(health_pb2.HealthCheckRequest(), metadata=_metadata(token))
    await anext(aiter(watch))
    watch.cancel()


async def _reflect(channel: grpc.aio.Channel, token: str) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    responses = stub.ServerReflectionInfo(iter([request]), metadata=_metadata(token))
    assert [each async for each in responses]


def _metadata(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")] if token else []


async def test_a_batch_is_refused_entry_by_entry(guarded: Guarded) -> None:
    request = {"requests": [{"url": URL}, {"url": URL, "recipes": [{"mp3": {}}]}]}
    headers = {"Authorization": f"Bearer {TOKENS['ingest']}"}
    async with guarded.http.post(
        "/ingot.v1.IngestService/BatchIngest", json=request, headers=headers
    ) as response:
        first, second = (await response.json())["results"]

    assert first["job"]["id"]
    [info] = [each for each in second["error"]["details"] if each["@type"].endswith("ErrorInfo")]
    assert (info["reason"], info["metadata"]) == ("SCOPE_MISSING", {"scope": "convert"})
