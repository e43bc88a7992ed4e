"""The alert rules, their runbooks and the dashboard name what there is."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from ingot_server.config import PREFIX, Settings
from ingot_server.errors import TREATMENTS, reason_name
from ingot_server.metrics.definitions import METRICS
from tests.programs import find_program

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yaml"
TESTS = ROOT / "deploy/prometheus/alerts.test.yaml"
DASHBOARD = ROOT / "deploy/grafana/ingot.json"
RUNBOOKS = ROOT / "docs/runbooks"
NAMES = re.findall(r"- alert: (\w+)", RULES.read_text())
PAGES = sorted(RUNBOOKS.glob("*.md"))


def metrics_in(text: str) -> set[str]:
    return set(re.findall(r"\bingot_\w+", text))


def expressions() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_rules_and_dashboard_use_metrics_that_there_are() -> None:
    known = {each.name for each in METRICS}
    histograms = {each.name for each in METRICS if each.buckets}
    known |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    assert metrics_in(RULES.read_text()) <= known
    assert metrics_in(TESTS.read_text()) <= known
    shown = metrics_in(" ".join(expressions()))
    assert shown <= known
    assert shown >= {each.name for each in METRICS if not each.buckets} - {
        "ingot_certificate_expiry_timestamp_seconds"
    }


def test_labels_of_the_rules_are_those_of_the_metrics() -> None:
    labels = {each.name: {*each.labels, "instance"} for each in METRICS}
    text = RULES.read_text() + TESTS.read_text() + " ".join(expressions())
    for name, selectors in re.findall(r"\b(ingot_\w+)\{([^}]*)\}", text):
        assert set(re.findall(r"(\w+)\s*[=!]", selectors)) <= labels[name]


def test_reasons_of_the_rules_are_those_of_the_contract() -> None:
    reasons = {reason_name(reason) for reason in TREATMENTS}
    for listed in re.findall(r'reason!~"([^"]+)"', RULES.read_text()):
        assert set(listed.split("|")) <= reasons
    pages = " ".join(page.read_text() for page in PAGES)
    words = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)`", pages))
    assert {word for word in words if not word.startswith(PREFIX)} <= reasons


def test_every_alert_has_a_runbook_and_a_test_and_every_runbook_an_alert() -> None:
    rules, tests = RULES.read_text(), TESTS.read_text()
    assert len(NAMES) == len(set(NAMES)) == rules.count("runbook_url:")
    assert {page.stem for page in PAGES} == set(NAMES)
    for name in NAMES:
        assert f"/docs/runbooks/{name}.md\n" in rules
        # Each is tested both ways.
        assert f"alertname: {name}, exp_alerts: []" in tests
        assert re.search(rf"alertname: {name}\n +exp_alerts:\n", tests)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_names_settings_and_pages_that_there_are(page: Path) -> None:
    text = page.read_text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        f"# {page.stem}",
        "## Look",
        "## Do",
    ]
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (page.parent / link).exists(), link
    settings = {PREFIX + item.name.upper() for item in fields(Settings)}
    assert set(re.findall(r"INGOT_\w+", text)) <= settings


@pytest.mark.promtool
@pytest.mark.parametrize(
    ("arguments", "file"), [(("check", "rules"), RULES), (("test", "rules"), TESTS)]
)
def test_promtool_accepts_the_rules(arguments: tuple[str, ...], file: Path) -> None:
    program = find_program("promtool")
    ended = subprocess.run(
        [program, *arguments, file.name], cwd=file.parent, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
