"""`ingot login` and `ingot logout`: the token is checked by the server, and kept for it alone."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import stat
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from ingot.v1.source_service_pb2 import ListSourcesRequest, ListSourcesResponse
from ingot.v1.source_service_pb2_grpc import (
    SourceServiceServicer,
    add_SourceServiceServicer_to_server,
)
from tests.ingot_command import COMMAND, CommandResult, run_command
from tests.waiting import JOB_SECONDS

pytestmark = pytest.mark.any_stores

GOOD = "good-token-0123456789"
# It may not read, but it is a token.
WRITES_ONLY = "write-token-0123456789"

# A keyring of the package `keyring` that keeps its passwords where the test finds them.
KEYRING = """
    import json, os, pathlib
    from keyring.backend import KeyringBackend

    class FileKeyring(KeyringBackend):
        priority = 1
        path = pathlib.Path(os.environ["KEYRING_FILE"])

        def _read(self):
            return json.loads(self.path.read_text()) if self.path.exists() else {}

        def get_password(self, service, username):
            return self._read().get(f"{service} {username}")

        def set_password(self, service, username, password):
            self.path.write_text(json.dumps({**self._read(), f"{service} {username}": password}))

        def delete_password(self, service, username):
            kept = self._read()
            del kept[f"{service} {username}"]
            self.path.write_text(json.dumps(kept))
    """


class Sources(SourceServiceServicer):
    """Knows two tokens, of which one may read."""

    async def ListSources(  # noqa: N802 - of protobuf
        self, request: ListSourcesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ListSourcesResponse:
        token = dict(context.invocation_metadata() or ()).get("authorization")
        if token == f"Bearer {WRITES_ONLY}":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "This token may not read.")
        if token != f"Bearer {GOOD}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "The token is not known.")
        return ListSourcesResponse()


@asynccontextmanager
async def server() -> AsyncIterator[str]:
    running = grpc.aio.server()
    add_SourceServiceServicer_to_server(Sources(), running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await running.stop(None)


@pytest.fixture
async def address() -> AsyncIterator[str]:
    async with server() as found:
        yield found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A user without a keyring."""
    return {
        "XDG_CONFIG_HOME": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "INGOT_TOKEN": "",
    }


async def login(address: str, token: str, environment: dict[str, str]) -> CommandResult:
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "--server", address, "login"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    async with asyncio.timeout(JOB_SECONDS):
        stdout, stderr = await process.communicate(f"{token}\n".encode())
    assert process.returncode is not None
    return CommandResult(process.returncode, stdout.decode(), stderr.decode())


async def test_a_token_is_kept_in_a_file_that_only_its_owner_reads(
    address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "ingot" / "tokens.json"
    result = await login(address, GOOD, environment)
    assert (result.code, result.stdout) == (0, "")
    assert str(file) in result.stderr
    assert GOOD not in result.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    assert (await run_command(address, "sources", environment=environment)).code == 0
    async with server() as another:
        assert (await run_command(another, "sources", environment=environment)).code == 1
    wins = {**environment, "INGOT_TOKEN": "wrong"}
    assert (await run_command(address, "sources", environment=wins)).code == 1

    assert (await run_command(address, "logout", environment=environment)).code == 0
    assert json.loads(file.read_text()) == {}
    assert (await run_command(address, "sources", environment=environment)).code == 1
    assert (await run_command(address, "logout", environment=environment)).code == 1


async def test_a_token_that_the_server_does_not_know_is_not_kept(
    address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    for token, code in (("wrong", 1), ("", 2), (WRITES_ONLY, 0)):
        result = await login(address, token, environment)
        assert result.code == code, result.stderr
        assert (tmp_path / "ingot" / "tokens.json").exists() == (code == 0)


async def test_a_keyring_is_used_if_there_is_one(
    address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file_keyring.py").write_text(textwrap.dedent(KEYRING))
    kept = tmp_path / "keyring.json"
    environment |= {
        "PYTHON_KEYRING_BACKEND": "file_keyring.FileKeyring",
        "PYTHONPATH": str(tmp_path),
        "KEYRING_FILE": str(kept),
    }

    assert "the keyring" in (await login(address, GOOD, environment)).stderr
    assert json.loads(kept.read_text()) == {f"ingot ingot://{address}": GOOD}
    assert GOOD not in (tmp_path / "ingot" / "tokens.json").read_text()
    assert (await run_command(address, "sources", environment=environment)).code == 0

    assert (await run_command(address, "logout", environment=environment)).code == 0
    assert json.loads(kept.read_text()) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="it needs a terminal")
async def test_the_terminal_does_not_show_the_token(
    address: str, environment: dict[str, str]
) -> None:
    def type_it() -> tuple[int, bytes]:
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(
                COMMAND, ["ingot", "--server", address, "login"], {**os.environ, **environment}
            )
        shown = b""
        while b"Token: " not in shown:
            shown += os.read(terminal, 1024)
        os.write(terminal, f"{GOOD}\n".encode())
        try:
            while block := os.read(terminal, 1024):
                shown += block
        except OSError:  # EIO: the command has ended
            pass
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown

    code, shown = await asyncio.to_thread(type_it)

    assert code == 0, shown
    assert b"tokens.json" in shown
    assert GOOD.encode() not in shown
