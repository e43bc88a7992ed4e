"""compose.yaml, as processes of this machine: its commands, environment, files and health checks.

Redis, SeaweedFS, Caddy and Ingot are real. Only containers and their networks are not there.
"""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from yarl import URL

from ingot import Client
from ingot_server.local.local_servers import HOST, valkey_executable
from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program
from tests.deployments import ENTRYPOINT, HEALTH_CHECK, ROOT, Container, Places
from tests.origin import Origin, Page
from tests.programs import find_program
from tests.servers import process

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose/prometheus.yaml").read_text())
# Each has a port of its own here, as its container has an address of its own there.
MEASURED = ("server", "worker", "convert")
LISTENERS = (
    *("redis:6379", "s3:8333", "server:50051", "server:8080", "https", "links"),
    *(f"{name}:9464" for name in MEASURED),
)
PARTS = ("master", "volume", "filer", "admin")
READY = {
    "s3": r"\bS3\s+ready\b",
    "server": "serving gRPC on",
    "worker": "ready for 16 jobs",
    "convert": "ready for 2 conversions",
}


@dataclass(slots=True)
class Running:
    """What runs of compose.yaml, and at which address."""

    directory: Path
    address: dict[str, str]
    containers: dict[str, Container] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @property
    def token(self) -> str:
        return (self.directory / "secrets/operator-token").read_text().strip()

    @property
    def authority(self) -> Path:
        """Where first-start says that it is, in the volume of Caddy."""
        return self.directory / "caddy/caddy/pki/authorities/local/root.crt"


def interpolated(text: str) -> str:
    """What Compose makes of `${NAME:-default}` where no variable is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def container(name: str, running: Running) -> Container:
    service = SERVICES[name]
    command = [*service.get("entrypoint", ENTRYPOINT), *service.get("command", ())]
    places = {
        **running.address,
        "0.0.0.0:50051": running.address["server:50051"],
        "0.0.0.0:8080": running.address["server:8080"],
        "0.0.0.0:9464": running.address.get(f"{name}:9464", ""),
        "https://localhost:9000": f"https://{running.address['links']}",
        "-s3.port=8333": f"-s3.port={running.address['s3:8333'].rpartition(':')[2]}",
        "-ip.bind=0.0.0.0": f"-ip.bind={HOST}",
        "127.0.0.1:8333": running.address["s3:8333"],
        "/run/ingot": str(running.directory / "secrets"),
        "/etc/ingot": str(ROOT / "deploy/compose"),
    }
    environment = {
        key: interpolated(str(value)) for key, value in service.get("environment", {}).items()
    }
    # Sources of the test are on this machine.
    environment["INGOT_EGRESS_ALLOW_LOOPBACK"] = "on"
    return Container(
        name, command, environment, Places(places), running.directory / f"{name} volume"
    )


def redis_program(running: Running) -> Program:
    _, *arguments = SERVICES["redis"]["command"]
    directory = running.directory / "redis"
    directory.mkdir(exist_ok=True)
    port = running.address["redis:6379"].rpartition(":")[2]
    return Program(
        name="redis",
        arguments=(str(valkey_executable()), "--bind", HOST, "--port", port, *arguments),
        ready=re.compile("ready to accept connections", re.IGNORECASE),
        directory=directory,
    )


def caddy_program(running: Running) -> Program:
    """Caddy with the file of compose.yaml, at other ports."""
    text = (ROOT / "deploy/compose/Caddyfile").read_text()
    for there, name in (("443", "https"), ("9000", "links")):
        port = running.address[name].rpartition(":")[2]
        text = text.replace(f"{{$DOMAIN:localhost}}:{there} ", f"localhost:{port} ")
    text = Places(running.address).here(text.replace("{$INGOT_S3_ENDPOINT:s3:8333}", "s3:8333"))
    # It would listen on port 80 for redirects.
    text = text.replace("admin off", "admin off\n\tauto_https disable_redirects")
    file = running.directory / "Caddyfile"
    file.write_text(text)
    return Program(
        name="caddy",
        arguments=(
            str(Path(sys.executable).parent / "caddy"),
            *("run", "--config", str(file), "--adapter", "caddyfile"),
        ),
        environment={"XDG_DATA_HOME": str(running.directory / "caddy")},
        ready=re.compile("serving initial configuration"),
    )


@contextmanager
def composed(directory: Path) -> Iterator[Running]:
    """Start what `docker compose up` starts, in its order."""
    with Ports() as ports, ExitStack() as stack:
        running = Running(directory, {each: f"{HOST}:{ports.reserve(HOST)}" for each in LISTENERS})
        for name in ("https", "links"):
            running.address[name] = running.address[name].replace(HOST, "localhost")
        (directory / "secrets").mkdir(mode=0o700)

        def start(name: str, program: Program) -> None:
            running.processes[name] = stack.enter_context(process(program))

        first = container("first-start", running)
        first.directory.mkdir()
        for _ in range(2):  # the second start changes nothing
            made = first.run(first.arguments)
            assert made.returncode == 0, made.stderr
            assert "docker compose exec server cat /run/ingot/operator-token" in made.stdout
        start("redis", redis_program(running))
        running.containers = {name: container(name, running) for name in READY}
        elsewhere = tuple(
            f"-{part}.port{kind}={ports.reserve(HOST)}"
            for part in (*PARTS, "s3")
            for kind in ("", ".grpc")
            if (part, kind) != ("s3", "")
        )
        for name, ready in READY.items():
            program = running.containers[name].program(ready)
            if name == "s3":
                program = Program(
                    name=name,
                    arguments=program.arguments + elsewhere,
                    environment=program.environment,
                    ready=program.ready,
                    directory=program.directory,
                )
            start(name, program)
        start("caddy", caddy_program(running))
        yield running


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with composed(tmp_path_factory.mktemp("compose")) as found:
        yield found


async def test_it_serves_over_tls_with_the_token_and_the_certificate_of_the_first_start(
    running: Running, origin: Origin, clip: bytes
) -> None:
    https, tls = f"https://{running.address['https']}", ssl.create_default_context()
    tls.load_verify_locations(running.authority)
    url = origin.serve("/composed.mp4", Page(clip))

    async with Client(https, token=running.token, ca_file=str(running.authority)) as client:
        await (await client.ingest_video(url))
        link = (await client.download_url(url)).url

    assert link.startswith(f"https://{running.address['links']}/")
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as http:
        async with http.get(link, headers={"Range": "bytes=3-6"}) as part:
            assert (part.status, await part.read()) == (206, clip[3:7])
        method = f"{https}/ingot.v1.MediaService/ListMedia"
        async with http.post(method, json={}) as refused:
            assert refused.status == 401
        token = {"Authorization": f"Bearer {running.token}"}
        async with http.post(method, json={}, headers=token) as listed:
            assert len((await listed.json())["media"]) == 1
        async with http.get(f"{https}/") as page:
            assert (page.status, page.content_type) == (200, "text/html")
        for path in ("/metrics", "/%6detrics", "//metrics", "/x/../metrics", "/METRICS"):
            async with http.get(URL(f"{https}{path}", encoded=True), headers=token) as hidden:
                assert (path, hidden.status) == (path, 404)


@pytest.mark.parametrize("name", ["server", "worker", "convert"])
def test_the_health_check_of_the_image_knows_the_role(running: Running, name: str) -> None:
    assert "healthcheck" not in SERVICES[name]
    healthy = running.containers[name].run(HEALTH_CHECK)
    assert healthy.returncode == 0, healthy.stderr


def test_the_health_check_of_s3_passes(running: Running) -> None:
    _, *command = SERVICES["s3"]["healthcheck"]["test"]
    healthy = running.containers["s3"].run(command)
    assert healthy.returncode == 0, healthy.stderr


async def test_prometheus_reads_every_process_and_needs_no_token(running: Running) -> None:
    scraped = {}
    for job in PROMETHEUS["scrape_configs"]:
        (discovered,) = job["dns_sd_configs"]
        (name,) = discovered["names"]
        scraped[name] = job["job_name"]
        assert "metrics" in SERVICES[name]["networks"]
        async with aiohttp.ClientSession() as http:
            address = running.address[f"{name}:{discovered['port']}"]
            async with http.get(f"http://{address}{job.get('metrics_path', '/metrics')}") as found:
                assert found.status == 200
                assert "ingot_" in await found.text()
    assert set(scraped) == set(MEASURED)
    # The alerts expect that.
    assert all(each.startswith("ingot") for each in scraped.values())


def test_grafana_has_the_data_source_and_the_dashboard() -> None:
    files = dict(each.split(":")[:2][::-1] for each in SERVICES["grafana"]["volumes"])
    provisioning = ROOT / files["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    (port,) = SERVICES["prometheus"]["ports"]
    assert source["type"] == "prometheus"
    assert source["url"] == f"http://prometheus:{port.rpartition(':')[2]}"
    assert set(SERVICES["grafana"]["networks"]) & set(SERVICES["prometheus"]["networks"])
    (provider,) = yaml.safe_load((provisioning / "dashboards/ingot.yaml").read_text())["providers"]
    shown = [path for path in files if path.startswith(provider["options"]["path"] + "/")]
    assert shown == [
        SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    ]
    dashboard = json.loads((ROOT / files[shown[0]]).read_text())
    (variable,) = dashboard["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])


def test_every_file_that_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            if volume.startswith("./"):
                assert (ROOT / volume.split(":")[0]).exists()


@pytest.mark.promtool
def test_promtool_accepts_what_prometheus_scrapes(tmp_path: Path) -> None:
    folder = tmp_path / "etc/prometheus"
    shutil.copytree(ROOT / "deploy/prometheus", folder)
    text = (ROOT / "deploy/compose/prometheus.yaml").read_text()
    (folder / "prometheus.yaml").write_text(text.replace("/etc/prometheus", str(folder)))
    checked = subprocess.run(
        [find_program("promtool"), "check", "config", folder / "prometheus.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert "1 rule files found" in checked.stdout


def test_what_runs_has_no_rights_and_writes_to_no_file_system_of_its_own() -> None:
    ours = [each for each in SERVICES.values() if "ingot" in each["image"]]
    assert len(ours) == 6
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert [name for name, each in SERVICES.items() if "ports" in each] == [
        "caddy",
        "prometheus",
        "grafana",
    ]
    for name in ("prometheus", "grafana"):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in SERVICES[name]["ports"])
