"""The Helm chart: what it renders is valid, and its commands, environment and probes work.

There is no cluster: what the pods would run are processes of this machine, with the real Redis and
the real SeaweedFS.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import kubernetes_validate
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ingot import Client
from ingot_server.access_tokens import entry, new_token
from ingot_server.local.local_servers import HOST, redis_program, valkey_executable
from ingot_server.local.ports import Ports, socket_path
from ingot_server.process.supervisor import Program
from tests.deployments import ENTRYPOINT, ROOT, Container, Places
from tests.origin import Origin, Page
from tests.recipes import make_recipe
from tests.servers import process, seaweedfs
from tests.waiting import until

pytestmark = pytest.mark.helm

CHART = ROOT / "deploy/helm/ingot"
VALUES = CHART / "ci/values.yaml"
ROLES = ("server", "ingest", "convert")
SCOPES = ["read", "ingest", "convert", "admin"]
WAITS = "Redis cannot be used, Ingot waits for it"


@cache
def helm() -> str:
    found = shutil.which("helm", path=f"{ROOT / '.cache/bin'}:{os.environ['PATH']}")
    if found is None:
        if os.environ.get("REQUIRE_ALL_SERVERS"):
            pytest.fail("helm is not installed")
        pytest.skip("helm is not installed")
    return found


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *arguments], capture_output=True, text=True, check=False)


@cache
def rendered(*options: str) -> list[dict[str, Any]]:
    """The manifests for the values of the tests, changed by `options`."""
    made = run_helm(
        *("template", "ingot", str(CHART), "--namespace", "media", "--values", str(VALUES)),
        *("--kube-version", kubernetes_validate.latest_version()),
        *options,
    )
    assert made.returncode == 0, made.stderr
    return [each for each in yaml.safe_load_all(made.stdout) if each]


def of_kind(kind: str, *options: str) -> dict[str, dict[str, Any]]:
    """The manifests of a kind, by the name of the component."""
    return {
        each["metadata"]["name"].removeprefix("ingot-"): each
        for each in rendered(*options)
        if each["kind"] == kind
    }


def test_the_chart_passes_lint() -> None:
    linted = run_helm("lint", "--strict", str(CHART), "--values", str(VALUES))
    assert linted.returncode == 0, linted.stdout


OPTIONS = [
    (),
    ("--set", "tls.existingSecret=ingot-tls", "--set", "autoscaling.enabled=false"),
    ("--set", "s3.existingSecret=,settings.INGOT_S3_CREDENTIALS=role"),
    ("--set-json", 'networkPolicy.egressProxy.peers=[{"ipBlock":{"cidr":"10.0.0.9/32"}}]'),
    ("--set", "metrics.enabled=false"),
    ("--set", "networkPolicy.scrapers=null"),
]
MONITORED = (
    *("--set", "metrics.podMonitor.enabled=true,metrics.podMonitor.labels.release=prometheus"),
    *("--set", "metrics.prometheusRule.enabled=true,metrics.token.existingSecret=ingot-scraper"),
    *("--set", "tls.existingSecret=ingot-tls"),
)


@pytest.mark.parametrize(
    ("options", "version"),
    [
        (OPTIONS[0], "1.27.0"),
        *((options, kubernetes_validate.latest_version()) for options in OPTIONS),
    ],
)
def test_what_it_renders_is_valid(options: tuple[str, ...], version: str) -> None:
    manifests = rendered(*options)
    for manifest in manifests:
        # It has no schemas of other projects' resources.
        if not manifest["apiVersion"].startswith(("keda.sh/", "monitoring.coreos.com/")):
            kubernetes_validate.validate(manifest, version, strict=True)
    assert {each["kind"] for each in manifests} >= {"Deployment", "Service", "NetworkPolicy"}
    assert not [each for each in manifests if each["kind"] in {"Secret", "HorizontalPodAutoscaler"}]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("redis.existingSecret=", "redis.existingSecret is needed"),
        ("s3.endpoint=", "s3.endpoint is needed"),
        ("settings.INGOT_S3_SECRET_KEY=secret", "INGOT_S3_SECRET_KEY"),
        ("workers.other.replicas=1", "other"),
    ],
)
def test_values_that_cannot_work_are_refused(option: str, message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        rendered("--set", option)


def test_keda_alone_counts_the_workers() -> None:
    deployments, scaled = of_kind("Deployment"), of_kind("ScaledObject")
    assert set(scaled) == {"ingest", "convert"}
    for name, threshold in (("ingest", "12.00"), ("convert", "1.50")):
        spec = scaled[name]["spec"]
        assert spec["scaleTargetRef"] == {"name": f"ingot-{name}"}
        assert "replicas" not in deployments[name]["spec"]
        (trigger,) = spec["triggers"]
        assert trigger["type"] == "prometheus"
        assert trigger["metadata"]["threshold"] == threshold
        selector = f'{{kind="{name.upper()}",namespace="media"}}'
        assert trigger["metadata"]["query"] == f"sum(max by (state) (ingot_jobs{selector}))"
    fixed = of_kind("Deployment", *OPTIONS[1])
    assert [fixed[name]["spec"]["replicas"] for name in ROLES] == [2, 2, 1]


def test_only_those_who_fetch_reach_the_internet_and_no_private_network() -> None:
    reached = {
        name: [
            block
            for rule in policy["spec"]["egress"]
            for peer in rule["to"]
            if (block := peer.get("ipBlock"))
        ]
        for name, policy in of_kind("NetworkPolicy").items()
    }
    assert reached["convert"] == []
    for name in ("server", "ingest"):
        four, six = reached[name]
        assert {"10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16"} <= set(four["except"])
        assert {"fc00::/7", "fe80::/10"} <= set(six["except"])
    proxied = of_kind("NetworkPolicy", *OPTIONS[3])["ingest"]["spec"]["egress"]
    assert [rule["to"] for rule in proxied][-1] == [{"ipBlock": {"cidr": "10.0.0.9/32"}}]


def test_scrapers_reach_the_metrics_of_all_pods_and_nothing_else() -> None:
    scrapers = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]
    for name, policy in of_kind("NetworkPolicy").items():
        *others, measured = policy["spec"]["ingress"]
        assert measured == {"ports": [{"port": "metrics"}], "from": scrapers}
        assert [rule["ports"] for rule in others] == (
            [[{"port": "grpc"}, {"port": "http"}]] if name == "server" else []
        )
    for options in OPTIONS[-2:]:
        policies = of_kind("NetworkPolicy", *options)
        assert "ingress" not in policies["ingest"]["spec"]
        assert len(policies["server"]["spec"]["ingress"]) == 1


def test_the_prometheus_operator_finds_all_pods_and_the_alerts() -> None:
    monitors = of_kind("PodMonitor", *MONITORED)
    deployments = of_kind("Deployment", *MONITORED)
    assert set(monitors) == set(ROLES)
    for name, monitor in monitors.items():
        pod = deployments[name]["spec"]["template"]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        assert (
            monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        )
        assert pod["metadata"]["labels"][monitor["spec"]["jobLabel"]].startswith("ingot")
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        (port,) = (
            each["containerPort"]
            for each in pod["spec"]["containers"][0]["ports"]
            if each["name"] == endpoint["port"]
        )
        assert port == 9464
        assert (endpoint.get("scheme"), "authorization" in endpoint) == (
            ("https", True) if name == "server" else (None, False)
        )
    (rule,) = (each for each in rendered(*MONITORED) if each["kind"] == "PrometheusRule")
    alerts = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    assert rule["spec"] == alerts
    assert not of_kind("PodMonitor")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of one container, as processes of this machine."""

    spec: Mapping[str, Any]
    container: Container
    grpc_address: str

    @classmethod
    def of(
        cls,
        role: str,
        secrets: Mapping[str, Mapping[str, str]],
        places: Mapping[str, str],
        at: Path,
    ) -> Pod:
        deployment = of_kind("Deployment")[role]
        pod = deployment["spec"]["template"]["spec"]
        (spec,) = pod["containers"]
        files = at / f"{role} secrets"
        files.mkdir()
        (volume,) = (each for each in pod["volumes"] if each["name"] == "secrets")
        for source in volume["projected"]["sources"]:
            for item in source["secret"]["items"]:
                text = secrets[source["secret"]["name"]][item["key"]]
                (files / item["path"]).write_text(text)
        environment = {
            each["name"]: each.get("value") or _referenced(each["valueFrom"], secrets)
            for each in spec["env"]
        }
        environment["INGOT_EGRESS_ALLOW_LOOPBACK"] = "on"  # sources of the test are here
        container = Container(
            role,
            [*spec.get("command", ENTRYPOINT), *spec["args"]],
            environment,
            Places({**places, "/run/ingot": str(files)}),
            at / role,
        )
        return cls(spec, container, places["0.0.0.0:50051"])

    def program(self) -> Program:
        """How to run it while there is no Redis."""
        return self.container.program(WAITS)

    def passes(self, probe: str) -> bool:
        """Whether the probe of this name passes, once."""
        match self.spec[probe]:
            case {"exec": {"command": command}}:
                return self.container.run(command).returncode == 0
            case {"grpc": {"port": 50051}, "timeoutSeconds": seconds}:
                return _serves(self.grpc_address, seconds)
            case other:
                raise AssertionError(other)


def _referenced(source: Mapping[str, Any], secrets: Mapping[str, Mapping[str, str]]) -> str:
    reference = source["secretKeyRef"]
    return secrets[reference["name"]][reference["key"]]


def _serves(address: str, seconds: float) -> bool:
    """What the gRPC probe of a kubelet asks."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        call = health.Check.future(health_pb2.HealthCheckRequest(), timeout=seconds)
        if call.code() != grpc.StatusCode.OK:
            return False
        return bool(call.result().status == health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


async def test_the_pods_serve_and_none_is_restarted_while_redis_is_away(
    stack: ExitStack, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    ports = stack.enter_context(Ports())
    s3 = stack.enter_context(seaweedfs(tmp_path / "s3"))
    unix_socket = socket_path(tmp_path, "redis.sock")
    redis = redis_program(valkey_executable(), tmp_path / "redis", unix_socket)
    token = new_token()
    secrets = {
        "ingot-redis": {"redis-url": f"unix://{unix_socket}"},
        "ingot-s3": {"access-key": s3["s3_access_key"], "secret-key": s3["s3_secret_key"]},
        "ingot-tokens": {"tokens.toml": entry(token, "operator", SCOPES, None)},
    }
    places = {
        "s3.media.svc:9000": s3["s3_endpoint"],
        "0.0.0.0:50051": f"{HOST}:{ports.reserve(HOST)}",
        "0.0.0.0:8080": f"{HOST}:{ports.reserve(HOST)}",
    }
    metrics = {role: f"{HOST}:{ports.reserve(HOST)}" for role in ROLES}
    pods = {
        role: Pod.of(role, secrets, {**places, "0.0.0.0:9464": metrics[role]}, tmp_path)
        for role in ROLES
    }
    url = origin.serve("/charted.mp4", Page(clip))

    for pod in pods.values():
        stack.enter_context(process(pod.program()))
    assert all(pod.passes("livenessProbe") for pod in pods.values())
    assert not pods["server"].passes("readinessProbe")
    with process(redis):
        await until(lambda: pods["server"].passes("readinessProbe"))
        async with Client(pods["server"].grpc_address, token=token) as client:
            media = await (await client.ingest_video(url))
            await (await client.convert(media.id, make_recipe("mp3")))
    async with aiohttp.ClientSession() as http:
        for role, address in metrics.items():
            async with http.get(f"http://{address}/metrics") as found:
                assert (role, found.status) == (role, 401 if role == "server" else 200)
        bearer = {"Authorization": f"Bearer {token}"}
        async with http.get(f"http://{metrics['server']}/metrics", headers=bearer) as found:
            assert "ingot_calls" in await found.text()

    # Redis is away again. Calls go elsewhere, but no pod is restarted.
    await until(lambda: not pods["server"].passes("readinessProbe"))
    assert all(pod.passes("livenessProbe") for pod in pods.values())
    with process(redis):
        await until(lambda: pods["server"].passes("readinessProbe"))
