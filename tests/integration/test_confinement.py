"""What the processes that read media cannot do, tried by an intruder in their place."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

import ingot_server
from ingot_server.config import Settings
from ingot_server.process import landlock, network_namespace, seccomp
from ingot_server.process.child import ChildProcess
from ingot_server.process.confinement import Confinement
from ingot_server.process.limits import Limits
from ingot_server.transcode.ffmpeg import Ffmpeg
from tests import attempts

pytestmark = pytest.mark.skipif(
    landlock.version() < landlock.FIRST_WITH_SCOPES or not seccomp.is_supported(),
    reason="this kernel cannot confine fully",
)

NOBODY: Final = 65534
LIMITS: Final = Limits(memory_bytes=1 << 30, cpu=timedelta(seconds=60), file_bytes=1 << 20)
# How many processes the intruder tries to start.
BOMB: Final = 2000
SOURCE: Final = Path(attempts.__file__).read_text()
PROGRAM: Final = """
import json, sys
sys.path.append(sys.argv[1])
from ingot_server.process import privileges, seccomp
from ingot_server.process.confinement import Confinement, PreparedConfinement, confine
targets = json.loads(sys.argv[2])
if targets["refused"]:
    privileges.drop(network=True)
    seccomp.install(network=True, forks=True)
if targets["prepared"]:
    confinement = PreparedConfinement()
    if os.fork():
        os.wait()
    confinement.enter()
elif targets["confinement"] is not None:
    confine(Confinement(*targets["confinement"]))
print(json.dumps({"tried": tried(targets), "forked": forked(targets["bomb"])}), flush=True)
signal.pause()
"""
TOLD: Final = """
targets = json.loads(sys.argv[-1])
print(json.dumps({"tried": tried(targets), "forked": forked(targets["bomb"])}), flush=True)
os.killpg(0, signal.SIGKILL)
"""


@pytest.fixture
def targets() -> Iterator[dict[str, Any]]:
    """What is worth an attack; the modes of all files would allow it."""
    place = Path(tempfile.mkdtemp(prefix="ingot-test-"))
    outside, scratch, other = place / "data", place / "scratch", place / "other"
    for directory in (outside, scratch, other):
        directory.mkdir()
        directory.chmod(0o777)
    place.chmod(0o755)
    (outside / "s3.json").write_text("secret")
    (other / "file").write_text("of another job")
    name = f"ingot-test-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX) as redis,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
        socket.create_server(("127.0.0.1", 0)) as four,
        socket.create_server(("127.0.0.1", 0)) as guard,
    ):
        redis.bind(str(outside / "redis.sock"))
        (outside / "redis.sock").chmod(0o777)
        abstract.bind(f"\0{name}")
        for server in (redis, abstract):
            server.listen()
        yield {
            "outside": str(outside),
            "keys": str(outside / "s3.json"),
            "other_job": str(other / "file"),
            "redis": str(outside / "redis.sock"),
            "abstract": name,
            "port": four.getsockname()[1],
            "port_of_ipv6": six.getsockname()[1],
            "guard": guard.getsockname()[1],
            "scratch": str(scratch),
            "result": str(scratch / "result"),
            "refused": False,
            "prepared": False,
            "confinement": None,
            "bomb": 0,
        }
    shutil.rmtree(place)
    Path("/tmp/ingot-attempt").unlink(missing_ok=True)


async def outcome(targets: dict[str, Any], *, user: str) -> dict[str, Any]:
    """What the intruder says that it could do."""
    server = str(Path(ingot_server.__file__).parents[1])
    command = [sys.executable, "-I", "-c"]
    if user == "nobody":
        if os.getuid() != 0:
            pytest.skip("only root can become another user")
        command = ["/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command += ["/usr/bin/python3", "-I", "-B", "-c"]
    command += [SOURCE.replace("from __future__ import annotations", "") + PROGRAM, server]
    async with await ChildProcess.start(*command, json.dumps(targets), limits=LIMITS) as child:
        answer = await child.receive_message()
        assert answer is not None, await child.final_stderr()
        networks = {Path(f"/proc/{each}/ns/net").readlink() for each in ("self", child.pid)}
        answer["has_own_network"] = len(networks) == 2
    return answer


def of_kind(kind: str, targets: dict[str, Any]) -> Confinement:
    programs = [] if kind == "prober" else [sys.executable]
    ports = [targets["guard"]] if kind == "extractor" else []
    return Confinement(writes=[targets["scratch"]], programs=programs, ports=ports)


@pytest.mark.parametrize("kind", ["prober", "ffmpeg", "extractor"])
@pytest.mark.parametrize("user", ["this", "nobody", "nobody without namespaces"])
async def test_an_intruder_reaches_nothing(targets: dict[str, Any], kind: str, user: str) -> None:
    targets |= {"confinement": of_kind(kind, targets), "bomb": BOMB}
    targets["refused"] = user == "nobody without namespaces"

    found = await outcome(targets, user=user.split()[0])

    assert found["tried"] == []
    if kind == "prober":
        assert found["forked"] == 0
    else:
        assert 1 < found["forked"] < BOMB
    if kind != "extractor" and not targets["refused"] and network_namespace.is_available():
        assert found["has_own_network"]
    assert (Path(targets["scratch"]) / "result").is_file()


@pytest.mark.parametrize("user", ["this", "nobody", "nobody without namespaces"])
async def test_an_intruder_in_a_child_of_a_prepared_process_reaches_nothing(
    targets: dict[str, Any], user: str
) -> None:
    targets |= {"prepared": True, "result": os.devnull, "bomb": BOMB}
    targets["refused"] = user == "nobody without namespaces"

    found = await outcome(targets, user=user.split()[0])

    assert (found["tried"], found["forked"]) == ([], 0)
    if not targets["refused"] and network_namespace.is_available():
        assert found["has_own_network"]


async def test_without_confinement_the_same_intruder_succeeds(targets: dict[str, Any]) -> None:
    found = await outcome(targets, user="nobody")

    assert {
        *("reads the data directory", "reads the keys of S3", "reads other jobs' files"),
        *("connects to Redis by its socket", "connects to an abstract socket", "connects by TCP"),
        *("connects by TCP of IPv6", "connects by UDP", "makes a netlink socket"),
        *("writes outside", "writes to /tmp", "signals all", "enters a namespace"),
    } <= set(found["tried"])


async def test_the_guard_can_be_reached(targets: dict[str, Any]) -> None:
    targets["confinement"] = of_kind("extractor", targets)
    targets["port"] = targets["guard"]

    assert (await outcome(targets, user="this"))["tried"] == ["connects by TCP"]


async def test_an_intruder_in_place_of_ffmpeg_reaches_nothing(targets: dict[str, Any]) -> None:
    scratch = Path(targets["scratch"])
    program = scratch / "ffmpeg"
    program.write_text(
        f"#!{Path(sys.executable).resolve()} -IS\n{SOURCE}\nimport json, sys\n{TOLD}"
    )
    program.chmod(0o755)
    told: list[bytes] = []
    source = scratch.parent / "source"
    source.write_text("media")
    ffmpeg = Ffmpeg(Settings(), program=str(program))

    with pytest.raises(Exception, match="SIGKILL"):
        await ffmpeg.run_command(
            [json.dumps(targets | {"bomb": BOMB})],
            source=source,
            output=scratch / "result",
            on_stdout=told.append,
        )

    found = json.loads(b"".join(told))
    assert found["tried"] == []
    assert 1 < found["forked"] < BOMB
