from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.process.child import ChildError, ChildProcess, describe_exit
from ingot_server.process.limits import Limits
from tests.installation import descendants
from tests.waiting import until

LIMITS = Limits(memory_bytes=1 << 30, cpu=timedelta(seconds=10))
ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
FAMILY = """
import subprocess, sys, time, json
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(json.dumps({"pid": child.pid}), flush=True)
time.sleep(600)
"""


def python(code: str, limits: Limits = LIMITS) -> asyncio.Future[ChildProcess]:
    return asyncio.ensure_future(
        ChildProcess.start(sys.executable, "-I", "-c", code, limits=limits)
    )


def descriptors() -> set[tuple[str, str]]:
    """What is open, by number and what it is."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # That of the listing itself.
            found.add((path.name, str(path.readlink())))
    return found


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"  # Of an orphan; it waits for init, not for us.


async def gone(*pids: int) -> None:
    await until(lambda: all(map(is_gone, pids)))


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = descriptors()
    servers = descendants(os.getpid())
    yield
    # What tests before left to the garbage collector may go meanwhile.
    assert descriptors() <= before
    assert set(descendants(os.getpid())) <= set(servers)


async def test_lines_of_json_go_both_ways() -> None:
    async with await python(ECHO) as child:
        for number in range(3):
            await child.send_message({"number": number})
            assert await child.receive_message() == {"number": number}
        assert child.running


async def test_it_ends_by_itself() -> None:
    async with await python("print('{}')") as child:
        assert await child.receive_message() == {}
        assert await child.receive_message() is None
        assert await child.wait() == 0


async def test_it_sees_no_environment_and_no_files_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INGOT_S3_SECRET_KEY", "secret")
    code = (
        "import os, json\n"
        "files = [f for f in map(int, os.listdir('/proc/self/fd')) if f > 2]\n"
        "real = [f for f in files if os.path.exists(f'/proc/self/fd/{f}')]\n"
        "print(json.dumps({'environment': dict(os.environ), 'files': real,"
        " 'leader': os.getsid(0) == os.getpid() == os.getpgid(0)}))"
    )
    async with await ChildProcess.start(
        sys.executable, "-I", "-c", code, limits=LIMITS, environment={"A": "b"}
    ) as child:
        answer = await child.receive_message()
    assert answer is not None
    assert answer["environment"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"
    assert answer == {"environment": {"LANG": "C.UTF-8", "A": "b"}, "files": [], "leader": True}


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os.abort()", "killed by SIGABRT"),
        ("import sys; sys.exit(3)", "exited with code 3"),
        ("b = bytearray(2 << 30)", "exited with code 1"),
        ("while True: pass", "killed by SIGXCPU"),
        ("f = open('/dev/shm/ingot-child-test', 'wb', 0); f.write(b'x')", "exited with code 1"),
    ],
)
async def test_its_end_is_named(code: str, how: str) -> None:
    limits = Limits(memory_bytes=1 << 30, cpu=timedelta(seconds=1))
    try:
        async with await python(code, limits) as child:
            assert await child.receive_message() is None
            assert describe_exit(await child.wait()) == how
    finally:
        Path("/dev/shm/ingot-child-test").unlink(missing_ok=True)


async def test_a_message_to_a_dead_child_is_not_an_error() -> None:
    async with await python("") as child:
        await child.wait()
        await child.send_message({"much": "x" * 1_000_000})
        assert await child.receive_message() is None


@pytest.mark.parametrize("code", ["print('hello')", "print('[]')", "print('x' * (5 << 20))"])
async def test_an_answer_that_is_none_is_an_error(code: str) -> None:
    async with await python(code) as child:
        with pytest.raises(ChildError):
            await child.receive_message()


@pytest.mark.parametrize("free_descriptors", range(6))
async def test_a_start_for_which_descriptors_are_lacking_is_an_error(free_descriptors: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_unused = os.dup(0)
    os.close(first_unused)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_unused + free_descriptors, hard))
    try:
        with pytest.raises(ChildError, match="could not be started"):
            await python("")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_the_end_of_its_standard_error_is_kept() -> None:
    code = "import sys; sys.stderr.write('x' * 1_000_000 + 'the end'); print('{}')"
    async with await python(code) as child:
        assert await child.receive_message() == {}
        await child.wait()
        await until(lambda: child.stderr.endswith("the end"))
        assert len(child.stderr) <= 64 << 10


async def test_leaving_kills_the_whole_group_at_once() -> None:
    async with await python(FAMILY) as child:
        answer = await child.receive_message()
        assert answer is not None
    await gone(child.pid, answer["pid"])
    assert not child.running


async def test_what_ignores_signals_dies_too() -> None:
    code = (
        "import signal, time\n"
        "for s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\n"
        "print('{}', flush=True)\ntime.sleep(600)"
    )
    async with await python(code) as child:
        await child.receive_message()
    assert is_gone(child.pid)


async def test_descendants_go_when_the_child_ended_before() -> None:
    code = FAMILY.replace("time.sleep(600)\n", "")
    async with await python(code) as child:
        answer = await child.receive_message()
        assert answer is not None
        assert await child.wait() == 0
    await gone(answer["pid"])


async def test_cancellation_and_timeout_end_it() -> None:
    children: list[ChildProcess] = []

    async def work(end: Callable[[], object]) -> None:
        async with await python(ECHO) as child:
            children.append(child)
            end()
            await child.receive_message()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as limit:
            await work(lambda: limit.reschedule(0))
    begun = asyncio.Event()
    task = asyncio.create_task(work(begun.set))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone(*[child.pid for child in children])
    assert len(children) == 2


@pytest.mark.parametrize("delay", [0, 0.001, 0.003, 0.01])
async def test_cancellation_of_the_start_leaves_nothing(delay: float) -> None:
    task = asyncio.create_task(ChildProcess.start(sys.executable, "-c", ECHO, limits=LIMITS))
    await asyncio.sleep(delay)
    task.cancel()
    try:
        child = await task
    except asyncio.CancelledError:
        return
    await child.close()


async def test_a_program_that_is_not_there_ends_with_an_error() -> None:
    async with await ChildProcess.start("/nowhere", limits=LIMITS) as child:
        assert await child.receive_message() is None
        assert await child.wait() == 1
        await until(lambda: "FileNotFoundError" in child.stderr)


async def test_close_may_be_called_again() -> None:
    child = await python(ECHO)
    await child.close()
    await child.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it")
async def test_it_dies_with_its_parent() -> None:
    code = (
        "import asyncio, sys, datetime\n"
        "from ingot_server.process.child import ChildProcess\n"
        "from ingot_server.process.limits import Limits\n"
        "async def main():\n"
        "    limits = Limits(memory_bytes=1 << 30, cpu=datetime.timedelta(seconds=9))\n"
        f"    child = await ChildProcess.start(sys.executable, '-c', {FAMILY!r}, limits=limits)\n"
        "    print(child.pid, (await child.receive_message())['pid'], flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child, grandchild = map(int, (await parent.stdout.readline()).split())
    parent.kill()
    await parent.communicate()
    try:
        await gone(child)
    finally:
        os.kill(grandchild, signal.SIGKILL)
