"""What extractors cannot do, tried by one of a plug-in, which may run any code in the child."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.result import Resolved
from ingot_server.process import landlock, network_namespace
from ingot_server.setting_values import ByteSize
from tests import attempts
from tests.origin import Origin, Page, running_origin
from tests.tls import server_context
from tests.waiting import until

pytestmark = pytest.mark.slow
needs_namespaces = pytest.mark.skipif(
    not network_namespace.is_available(), reason="no network namespace can be made here"
)

PLUGIN = """
import os
from yt_dlp.extractor.common import InfoExtractor

class TrialIE(InfoExtractor):
    _VALID_URL = r"https?://[^/]+/trial"

    def _real_extract(self, url):
{body}
        return {{"id": "trial", "title": text, "url": url, "ext": "mp4"}}
"""
IMPERSONATED = """
        os.environ.update(NO_PROXY="*", no_proxy="*", ALL_PROXY="http://127.0.0.1:9")
        text = self._download_webpage(
            {url!r}, "trial", impersonate=True, headers={{"Ytdl-Request-Proxy": "__noproxy__"}}
        )
        assert "CurlCFFI" in self._downloader._request_director.handlers
"""
DENO = """
        from yt_dlp.utils import Popen
        deno = self.get_param("js_runtimes")["deno"]["path"]
        text = Popen.run([deno, "eval", {code!r}], text=True, stdout=-1)[0]
"""


async def resolved(settings: Settings, directory: Path, body: str, url: str) -> Resolved:
    async with _running(with_plugin(settings, directory, body)) as (extractor, proxy):
        return await _resolved(extractor, proxy, url)


def with_plugin(settings: Settings, directory: Path, body: str) -> Settings:
    place = directory / "plugins" / "trial" / "yt_dlp_plugins" / "extractor"
    place.mkdir(parents=True)
    (place / "trial.py").write_text(PLUGIN.format(body=body))
    return settings.replace(extractor_plugins=str(directory / "plugins"))


async def _resolved(extractor: ExtractorPool, proxy: EgressProxy, url: str) -> Resolved:
    async with extractor.session(
        url,
        selection=Selection(mode=Selection.MODE_BEST),
        options=IngestOptions(),
        proxy_url=proxy.grant("job").proxy_url,
    ) as session:
        found = await session.resolve()
    assert isinstance(found, Resolved)
    return found


@asynccontextmanager
async def _running(settings: Settings) -> AsyncIterator[tuple[ExtractorPool, EgressProxy]]:
    proxy = EgressProxy(settings)
    extractor = ExtractorPool(settings, guard=proxy)
    await proxy.start()
    await extractor.start()
    try:
        yield extractor, proxy
    finally:
        await extractor.close()
        await proxy.close()


@pytest.fixture
def settings() -> Settings:
    return Settings(egress_allow_loopback=True)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_impersonated_request_leaves_by_the_guard_alone(
    settings: Settings, tmp_path: Path, origin: Origin, scheme: str
) -> None:
    body = IMPERSONATED.format(url=f"{scheme}://10.0.0.1/")
    with pytest.raises(Failure) as caught:
        await resolved(settings, tmp_path, body, origin.url("/trial"))
    assert reason_name(caught.value.reason) == "ADDRESS_FORBIDDEN", caught.value


async def test_an_impersonated_request_trusts_the_authority_of_the_installation(
    settings: Settings, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    async with running_origin(context) as origin:
        url = origin.serve("/text", Page(b"a bell", content_type="text/plain"))
        found = await resolved(
            settings.replace(egress_ca_file=str(authority)),
            *(tmp_path, IMPERSONATED.format(url=url), origin.url("/trial")),
        )
    assert found.title == "a bell"


TEMPORARY = """
        import tempfile
        with tempfile.NamedTemporaryFile() as file:
            text = file.name
"""


async def test_temporary_files_are_in_the_directory_of_the_job(
    settings: Settings, tmp_path: Path, origin: Origin
) -> None:
    found = await resolved(settings, tmp_path, TEMPORARY, origin.url("/trial"))
    assert Path(found.title).parent.name.startswith("cache-")


ATTEMPTS = """
        import json, os, runpy
        tried = runpy.run_path({attempts!r})["tried"]
        text = json.dumps(tried({targets!r} | {{"scratch": os.getcwd(), "result": "result"}}))
"""
DENO_ATTEMPTS = """
const tried = [];
const attempts = {
  "reads /etc/shadow": () => Deno.readTextFileSync("/etc/shadow"),
  "reads the keys of S3": () => Deno.readTextFileSync(targets.keys),
  "reads other jobs' files": () => Deno.readTextFileSync(targets.other_job),
  "writes outside": () => Deno.writeTextFileSync(targets.outside + "/written", ""),
  "connects to Redis by its socket": () => Deno.connect({transport: "unix", path: targets.redis}),
  "connects by TCP": () => Deno.connect({hostname: "127.0.0.1", port: targets.port}),
  "listens": () => Deno.listen({hostname: "127.0.0.1", port: 0}),
  "signals its worker": () => Deno.kill(targets.worker, "SIGCONT"),
  "runs a program that writes": () => {
    const touch = new Deno.Command("/usr/bin/touch", { args: [targets.outside + "/touched"] });
    if (!touch.outputSync().success) throw new Error("refused");
  },
};
for (const [name, attempt] of Object.entries(attempts))
  try { await attempt(); tried.push(name); } catch {}
console.log(JSON.stringify(tried));
"""


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[dict[str, object]]:
    """What is worth an attack, as in test_confinement.py."""
    outside = tmp_path / "data"
    outside.mkdir()
    (outside / "s3.json").write_text("secret")
    with socket.socket(socket.AF_UNIX) as redis, socket.create_server(("127.0.0.1", 0)) as server:
        redis.bind(str(outside / "redis.sock"))
        redis.listen()
        yield {
            "outside": str(outside),
            "keys": str(outside / "s3.json"),
            "other_job": str(outside / "s3.json"),
            "redis": str(outside / "redis.sock"),
            "abstract": "nothing",
            "port": server.getsockname()[1],
            "port_of_ipv6": server.getsockname()[1],
            "worker": os.getpid(),
        }


@pytest.mark.skipif(
    landlock.version() < landlock.FIRST_WITH_SCOPES, reason="this kernel cannot confine fully"
)
@pytest.mark.parametrize("where", ["extractor", "deno"])
async def test_an_intruder_reaches_nothing(
    settings: Settings, tmp_path: Path, origin: Origin, targets: dict[str, object], where: str
) -> None:
    program = tmp_path / "plugins" / "attempts.py"
    program.parent.mkdir()
    shutil.copyfile(attempts.__file__, program)
    body = ATTEMPTS.format(attempts=str(program), targets=targets)
    if where == "deno":
        code = f"const targets = {json.dumps(targets)};{DENO_ATTEMPTS}"
        body = DENO.format(code=code)

    found = await resolved(settings, tmp_path, body, origin.url("/trial"))

    assert json.loads(found.title) == []
    assert sorted(path.name for path in Path(str(targets["outside"])).iterdir()) == [
        *("redis.sock", "s3.json")
    ]


CONNECTIONS = """
        import ctypes, json, socket, struct
        def connect(address, port):
            with socket.socket() as trial:
                place = struct.pack("=H", 2) + port.to_bytes(2, "big")
                place += socket.inet_aton(address) + bytes(8)
                return ctypes.CDLL(None).connect(trial.fileno(), place, len(place)) == 0
        port = int(self.get_param("proxy").rpartition(":")[2])
        text = json.dumps([connect("127.0.0.1", port), connect("127.0.0.2", port)])
"""


@needs_namespaces
@pytest.mark.parametrize(
    ("prewarm", "has_own_network"), [(True, True), (False, True), (True, False)]
)
async def test_machine_code_reaches_only_the_guard_in_a_network_of_its_own(
    settings: Settings, tmp_path: Path, origin: Origin, prewarm: bool, has_own_network: bool
) -> None:
    settings = with_plugin(settings, tmp_path, CONNECTIONS).replace(extractor_prewarm=prewarm)
    async with _running(settings) as (extractor, proxy):
        if not has_own_network:
            extractor = ExtractorPool(settings)
            await extractor.start()
        with socket.create_server(("127.0.0.2", proxy.port)):
            found = await _resolved(extractor, proxy, origin.url("/trial"))
        await extractor.close()
    assert json.loads(found.title) == [True, not has_own_network]


@needs_namespaces
async def test_plugins_reach_their_server_in_a_network_of_its_own(
    settings: Settings, tmp_path: Path, origin: Origin
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    body = f"""
        import os, socket
        with socket.create_connection(("127.0.0.1", {port})) as server:
            server.sendall(b"a token")
            server.shutdown(socket.SHUT_WR)
            text = server.makefile().read() + os.readlink("/proc/self/ns/net")
"""
    async with server:
        found = await resolved(
            *(settings.replace(extractor_plugin_port=port), tmp_path, body, origin.url("/trial"))
        )
    assert found.title.startswith("A TOKEN")
    assert not found.title.endswith(str(Path("/proc/self/ns/net").readlink()))


@needs_namespaces
async def test_a_fork_server_that_is_replaced_has_the_guard_again(
    settings: Settings, tmp_path: Path, origin: Origin
) -> None:
    body = '        import os; text = str(os.getppid()); self._download_webpage(url, "trial")'
    async with _running(with_plugin(settings, tmp_path, body)) as (extractor, proxy):
        url = origin.serve("/trial", Page(b"a page", content_type="text/html"))
        first = int((await _resolved(extractor, proxy, url)).title)
        os.kill(first, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{first}/exe").exists())
        second = int((await _resolved(extractor, proxy, url)).title)
    assert first != second


async def test_a_job_finds_nothing_that_another_one_has_kept(
    settings: Settings, tmp_path: Path, origin: Origin
) -> None:
    body = """
        text = str(self.cache.load("trial", "key"))
        self.cache.store("trial", "key", "poisoned")
        text += str(self.cache.load("trial", "key"))
"""
    async with _running(with_plugin(settings, tmp_path, body)) as (extractor, proxy):
        found = [await _resolved(extractor, proxy, origin.url("/trial")) for _ in range(2)]
    assert [each.title for each in found] == ["Nonepoisoned"] * 2


async def test_what_the_child_starts_counts_for_its_memory(
    settings: Settings, tmp_path: Path, origin: Origin
) -> None:
    code = "const all = []; while (true) all.push(new Uint8Array(1 << 20).fill(1))"
    limited = settings.replace(extractor_memory=ByteSize(400 << 20))
    with pytest.raises(Failure) as caught:
        await resolved(limited, tmp_path, DENO.format(code=code), origin.url("/trial"))
    assert caught.value.reason == reason_pb2.REASON_EXTRACTOR_CRASHED
    assert "INGOT_EXTRACTOR_MEMORY" in caught.value.message


async def test_a_refusal_of_the_upstream_proxy_is_not_a_forbidden_address(
    settings: Settings, tmp_path: Path
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    async with server:
        with pytest.raises(Failure) as caught:
            await resolved(
                settings.replace(egress_proxy=f"http://{host}:{port}"),
                *(tmp_path, "        text = ''", "https://media.example/clip.mp4"),
            )
    assert reason_name(caught.value.reason) == "SOURCE_UNREACHABLE", caught.value
    assert "INGOT_EGRESS_PROXY" in caught.value.message
