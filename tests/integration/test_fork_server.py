"""Children that are forked: as isolated as those that are started, and ended with their users."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingot_server.config import Settings
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.process import fork_server, network_namespace
from ingot_server.process.child import ChildError, ChildProcess, describe_exit
from ingot_server.process.fork_server import ForkServer
from ingot_server.process.limits import Limits
from tests.installation import descendants
from tests.waiting import until

LIMITS = Limits(memory_bytes=1 << 30, cpu=timedelta(seconds=10))
# It evaluates each line that it gets and prints the result as JSON.
PROGRAM = """
import json, os, resource, signal, subprocess, sys, threading
PREPARED_BY = []
def prepare():
    PREPARED_BY.append(os.getpid())
def serve():
    for line in sys.stdin:
        print(json.dumps({"value": eval(line)}), flush=True)
    os._exit(0)
if __name__ == "__main__":
    prepare()
    serve()
"""


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return str(path)


@pytest.fixture
async def server(program: str) -> AsyncIterator[ForkServer]:
    others = set(descendants(os.getpid()))
    server = ForkServer(program, limits=LIMITS)
    server.start()
    yield server
    await server.close()
    assert set(descendants(os.getpid())) <= others


async def evaluated(child: ChildProcess, expression: str) -> Any:
    await child.write_input(f"{expression}\n".encode())
    answer = await child.receive_message()
    assert answer is not None, await child.final_stderr()
    return answer["value"]


def is_running(pid: int) -> bool:
    return pid in descendants(os.getpid())


async def test_children_share_what_was_prepared_once(server: ForkServer) -> None:
    async with await server.start_child() as first, await server.start_child() as second:
        prepared = await evaluated(first, "PREPARED_BY")
        assert await evaluated(second, "PREPARED_BY") == prepared
        assert prepared == [await evaluated(first, "os.getppid()")]
        assert first.pid != second.pid
        assert await evaluated(first, "os.getpid()") == first.pid


async def test_a_child_sees_no_environment_and_no_files_of_ours(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGOT_S3_SECRET_KEY", "secret")
    server = ForkServer(program, limits=LIMITS)
    server.start()
    async with await server.start_child() as child:
        environment = await evaluated(child, "dict(os.environ)")
        environment.pop("LC_CTYPE", "")
        assert environment == {"LANG": "C.UTF-8"}
        files = "[f for f in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{f}')]"
        assert sorted(await evaluated(child, files)) == ["0", "1", "2"]
        assert await evaluated(child, "os.getsid(0) == os.getpgid(0) == os.getpid()")
        assert await evaluated(child, "os.listdir('/proc/self/task') == [str(os.getpid())]")
    await server.close()


@pytest.mark.parametrize(
    ("expression", "how"),
    [
        ("os.abort()", "killed by SIGABRT"),
        ("os._exit(3)", "exited with code 3"),
        ("bytearray(2 << 30)", "exited with code 1"),
        ("[0 for _ in iter(int, 1)]", "killed by SIGXCPU"),
        ("open('/dev/shm/ingot-fork-test', 'wb', 0).write(b'x')", "exited with code 1"),
    ],
)
async def test_the_end_of_a_child_is_named_and_its_limits_are_its_own(
    program: str, expression: str, how: str
) -> None:
    server = ForkServer(
        program, limits=Limits(memory_bytes=1 << 30, cpu=timedelta(seconds=1), file_bytes=0)
    )
    server.start()
    try:
        async with await server.start_child() as child:
            await child.write_input(f"{expression}\n".encode())
            assert await child.receive_message() is None
            assert describe_exit(await child.wait()) == how
            assert not child.running
        async with await server.start_child() as child:
            assert await evaluated(child, "1 + 1") == 2
    finally:
        await server.close()
        Path("/dev/shm/ingot-fork-test").unlink(missing_ok=True)


async def test_a_child_is_ended_with_all_that_it_started(server: ForkServer) -> None:
    async with await server.start_child() as child:
        grandchild = await evaluated(child, "subprocess.Popen(['sleep', '600']).pid")
        assert is_running(grandchild)
    assert not child.running
    await until(lambda: not is_running(grandchild))


async def test_a_process_to_fork_from_that_dies_is_replaced(server: ForkServer) -> None:
    async with await server.start_child() as child:
        os.kill(await evaluated(child, "os.getppid()"), signal.SIGKILL)
        assert await child.receive_message() is None
        assert describe_exit(await child.wait()) == "killed by SIGKILL"
    async with await server.start_child() as child:
        assert await evaluated(child, "1 + 1") == 2


async def test_a_process_to_fork_from_ends_when_it_is_not_used(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fork_server, "_IDLE_SECONDS", 0.2)
    looks = 0

    class Counted(fork_server._Parent):
        def end_when_idle(self) -> None:
            nonlocal looks
            looks += 1
            super().end_when_idle()

    monkeypatch.setattr(fork_server, "_Parent", Counted)
    server = ForkServer(program, limits=LIMITS)
    server.start()
    async with await server.start_child() as child:
        parent = await evaluated(child, "os.getppid()")
        await until(lambda: looks > 3)
        assert await evaluated(child, "os.getppid()") == parent
    await until(lambda: not is_running(parent))
    async with await server.start_child() as child:
        assert await evaluated(child, "os.getppid()") != parent
    await server.close()


@pytest.mark.parametrize("keep", [False, True])
async def test_a_process_to_fork_from_is_ready_before_the_first_child(
    program: str, keep: bool
) -> None:
    others = set(descendants(os.getpid()))
    server = ForkServer(program, limits=LIMITS)
    server.start(keep=keep)
    if not keep:
        server.prepare()
    await until(lambda: set(descendants(os.getpid())) - others)
    (parent,) = set(descendants(os.getpid())) - others
    async with await server.start_child() as child:
        assert await evaluated(child, "os.getppid()") == parent
    await server.close()


async def test_a_server_that_closes_while_it_prepares_leaves_nothing(program: str) -> None:
    others = set(descendants(os.getpid()))
    server = ForkServer(program, limits=LIMITS)
    server.start()
    server.prepare()
    await asyncio.sleep(0)
    await server.close()
    await until(lambda: set(descendants(os.getpid())) <= others)


async def test_a_child_lives_on_when_the_arguments_change_or_the_server_closes(
    program: str,
) -> None:
    arguments = ["old"]
    server = ForkServer(program, limits=LIMITS, arguments=lambda: arguments)
    server.start()
    async with await server.start_child() as first:
        parent = await evaluated(first, "os.getppid()")
        arguments[0] = "new"
        async with await server.start_child() as second:
            assert await evaluated(first, "sys.argv[1:]") == ["old"]
            assert await evaluated(second, "sys.argv[1:]") == ["new"]
            await server.close()
            assert await evaluated(second, "1 + 1") == 2
            second_parent = await evaluated(second, "os.getppid()")
        assert is_running(parent)
    await until(lambda: not is_running(parent) and not is_running(second_parent))


async def test_before_and_after_a_child_is_started_by_itself(program: str) -> None:
    server = ForkServer(program, limits=LIMITS, arguments=lambda: ["one"])
    async with await server.start_child() as child:
        assert await evaluated(child, "os.getppid()") == os.getpid()
        assert await evaluated(child, "sys.argv[1:]") == ["one"]


async def test_a_program_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_like_this")
    server = ForkServer(str(tmp_path / "broken.py"), limits=LIMITS)
    server.start()
    with pytest.raises(ChildError):
        await server.start_child()
    await server.close()


@pytest.mark.parametrize("delay", [0, 0.001, 0.003, 0.01])
async def test_a_start_that_is_cancelled_leaves_nothing(server: ForkServer, delay: float) -> None:
    async with await server.start_child() as child:
        parent = await evaluated(child, "os.getppid()")
    starting = asyncio.create_task(server.start_child())
    await asyncio.sleep(delay)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await (await starting).close()
    async with await server.start_child() as child:
        assert await evaluated(child, "os.getppid()") == parent
        await until(lambda: set(descendants(parent)) == {child.pid})


async def test_a_server_does_not_wait_for_a_child_whose_start_was_cancelled(
    server: ForkServer,
) -> None:
    async with await server.start_child() as child:
        process = await evaluated(child, "os.getppid()")
    starting = asyncio.create_task(server.start_child())
    parent = server._parent
    assert parent is not None
    while not parent._children:  # noqa: ASYNC110 - it must be cancelled before the child responds
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    await server.close()

    assert parent.ended
    assert not is_running(process)


@pytest.mark.skipif(not network_namespace.is_available(), reason="no network namespaces here")
async def test_a_worker_that_stops_during_the_start_leaves_no_traceback(program: str) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.close()
        starting = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ingot_server.process.fork_server_main"),
            *(json.dumps({"ports": [0], "own": True}), program),
            stdin=theirs.fileno(),
            stderr=asyncio.subprocess.PIPE,
        )
    _, said = await starting.communicate()
    assert (starting.returncode, said) == (0, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
async def test_children_die_with_the_worker(program: str) -> None:
    code = (
        "import asyncio, datetime\n"
        "from ingot_server.process.fork_server import ForkServer\n"
        "from ingot_server.process.limits import Limits\n"
        "async def main():\n"
        "    limits = Limits(memory_bytes=1 << 30, cpu=datetime.timedelta(seconds=9))\n"
        f"    server = ForkServer({program!r}, limits=limits)\n"
        "    server.start()\n"
        "    child = await server.start_child()\n"
        "    await child.write_input(b'os.getppid()\\n')\n"
        "    print((await child.receive_message())['value'], child.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    pids = set(map(int, (await worker.stdout.readline()).split()))
    worker.kill()
    await worker.communicate()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


async def test_extraction_is_forked_from_a_process_without_threads_and_sockets() -> None:
    pool = ExtractorPool(Settings())
    others = set(descendants(os.getpid()))
    await pool.start()
    try:
        assert await pool.check()
        (parent,) = set(descendants(os.getpid())) - others
        assert len(list(Path(f"/proc/{parent}/task").iterdir())) == 1
        files = [str(path.readlink()) for path in Path(f"/proc/{parent}/fd").iterdir()]
        # That to the worker, and a pair that wakes the process when a child ends.
        assert len([name for name in files if name.startswith("socket:")]) == 3
        status = dict(
            line.split(":\t") for line in Path(f"/proc/{parent}/status").read_text().splitlines()
        )
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        # Other users, other groups, dropping these rights, and files of all users (bits 6 to 8, 1).
        assert int(status["CapBnd"], 16) & int(status["CapEff"], 16) & ~0b1_1100_0010 == 0
    finally:
        await pool.close()
