"""The client and the command reach a server behind TLS that requires a token."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

import ingot
from ingot import Client
from ingot.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from tests import tls
from tests.ingot_command import CommandResult, run_command
from tests.scripted_server import JOB_ID, ScriptedServer

TOKEN = "abc.def"


class RequiresToken(grpc.aio.ServerInterceptor):
    """Refuses every call without the token."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        if ("authorization", f"Bearer {TOKEN}") in (details.invocation_metadata or ()):
            return await continuation(details)

        async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The token is missing or wrong.")

        return grpc.unary_unary_rpc_method_handler(refuse)


@dataclass(frozen=True, slots=True)
class Front:
    """Where the server listens with and without TLS, and the file of its authority."""

    port: int
    plain_port: int
    authority: Path

    @property
    def address(self) -> str:
        # A name could also lead to ::1, where nothing listens; gRPC reports only its last attempt.
        return f"https://127.0.0.1:{self.port}"


@asynccontextmanager
async def running_front(directory: Path) -> AsyncIterator[Front]:
    server = grpc.aio.server(interceptors=[RequiresToken()])
    add_JobServiceServicer_to_server(ScriptedServer(str(directory)), server)
    credentials = grpc.ssl_server_credentials([(tls.KEY.encode(), tls.CERTIFICATE.encode())])
    port = server.add_secure_port("127.0.0.1:0", credentials)
    plain_port = server.add_insecure_port("127.0.0.1:0")
    authority = directory / "authority.pem"
    authority.write_text(tls.CERTIFICATE)
    await server.start()
    try:
        yield Front(port, plain_port, authority)
    finally:
        await server.stop(None)


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with running_front(tmp_path) as front:
        yield front


async def test_the_client_calls_a_server_behind_tls_with_a_token(front: Front) -> None:
    async with Client(front.address, token=TOKEN, ca_file=front.authority) as client:
        job = await client.job(JOB_ID)
        assert [update.revision async for update in job] == [1, 2, 3, 4, 5, 6]


async def test_a_wrong_token_is_refused(front: Front) -> None:
    async with Client(front.address, token="wrong", ca_file=front.authority) as client:
        with pytest.raises(ingot.AccessDenied, match="token is missing or wrong"):
            await client.job(JOB_ID)


@pytest.mark.parametrize("way", ["options", "environment", "file"])
async def test_the_command_calls_a_server_behind_tls_with_a_token(
    front: Front, tmp_path: Path, way: str
) -> None:
    options: list[str] = []
    environment = {"XDG_CONFIG_HOME": str(tmp_path), "INGOT_SERVER": ""}
    if way == "options":
        options = [f"--server={front.address}", f"--token={TOKEN}", f"--ca={front.authority}"]
    elif way == "environment":
        environment["INGOT_SERVER"] = front.address
        environment |= {"INGOT_TOKEN": TOKEN, "INGOT_CA": str(front.authority)}
    else:
        for key, value in ("server", front.address), ("token", TOKEN), ("ca", front.authority):
            result = await run_command("", "config", "set", key, value, environment=environment)
            assert result == CommandResult(0, "", "")

    result = await run_command("", *options, "job", JOB_ID, environment=environment)

    assert (result.code, result.stderr) == (0, "")
    assert JOB_ID in result.stdout


async def test_headers_are_sent(front: Front) -> None:
    header = f"Authorization: Bearer {TOKEN}"
    result = await run_command(
        front.address, "job", JOB_ID, "--ca", front.authority, "--header", header
    )

    assert result.code == 0


async def test_the_command_says_what_keeps_it_from_the_server(front: Front, tmp_path: Path) -> None:
    other_host = f"https://127.0.0.2:{front.port}"
    ca = ("--ca", str(front.authority))
    (tmp_path / "junk.pem").write_text("junk")
    cases = [
        (front.address, ca, 1, "token is missing or wrong", "--token or INGOT_TOKEN"),
        (front.address, (), 1, "not signed by a trusted authority", "--ca FILE"),
        (f"127.0.0.1:{front.port}", (), 1, "a server that expects TLS", "https://HOST"),
        (f"https://127.0.0.1:{front.plain_port}", ca, 1, "does not use TLS", "ingot://HOST:PORT"),
        ("https://no-such-host.invalid", (), 1, "host name is not known", "Check the host name"),
        (other_host, ca, 1, "Connection refused", "ingot-server up"),
        (front.address, ("--ca", "missing.pem"), 2, "missing.pem: No such file", ""),
        (front.address, ("--ca", str(tmp_path / "junk.pem")), 2, "no certificates in PEM", ""),
        ("example.com", ("--token", "x"), 2, "not encrypted", "--allow-plaintext-token"),
        ("http://localhost", (), 2, "INGOT_SERVER: Without TLS", "ingot://HOST:PORT"),
    ]
    for address, options, code, what, advice in cases:
        result = await run_command(address, "job", JOB_ID, *options)

        assert (result.code, result.stdout) == (code, ""), result.stderr
        assert what in result.stderr
        assert advice in result.stderr


async def test_verbose_shows_each_call_its_status_and_its_time(front: Front) -> None:
    options = ("--ca", str(front.authority), "--token", TOKEN)
    before = await run_command(front.address, "-v", *options, "watch", JOB_ID)
    after = await run_command(front.address, "job", "another", *options, "-v")

    assert "ingot: GetJob: OK in " in before.stderr
    assert "ingot: WatchJob: OK in " in before.stderr
    assert "ingot: GetJob: NOT_FOUND in " in after.stderr
