"""CHANGELOG.md keeps its format, and its releases agree with the version of the distributions."""

from __future__ import annotations

import datetime
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CHANGELOG = ROOT / "CHANGELOG.md"
CHANGES = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
RELEASE = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)")


def project(folder: Path) -> dict[str, object]:
    table: dict[str, object] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return table


def members() -> list[Path]:
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["workspace"]
    return [ROOT / member for member in workspace["members"]]


def section_titles(changelog: str) -> list[str]:
    return re.findall(r"^## (.*)$", changelog, flags=re.MULTILINE)


def problems(changelog: str, current: str) -> list[str]:
    """Return what is wrong with a changelog whose distributions have the version `current`."""
    first, *released = section_titles(changelog) or [""]
    found = []
    if not changelog.startswith("# Changelog\n"):
        found.append("The title is not 'Changelog'.")
    if first != "[Unreleased]":
        found.append("The first section is not '[Unreleased]'.")
    matches = [RELEASE.fullmatch(title) for title in released]
    found += [
        f"'{title}' is not '[version] - date'."
        for title, match in zip(released, matches, strict=True)
        if not match
    ]
    releases = [
        (Version(match[1]), datetime.date.fromisoformat(match[2])) for match in matches if match
    ]
    if any(newer[0] <= older[0] or newer[1] < older[1] for newer, older in pairwise(releases)):
        found.append("The releases are not in order, newest first.")
    if releases and releases[0][0] > Version(current):
        found.append(f"{releases[0][0]} is newer than the version {current} in pyproject.toml.")
    found += [
        f"'{kind}' is not a kind of change."
        for kind in re.findall(r"^### (.*)$", changelog, flags=re.MULTILINE)
        if kind not in CHANGES
    ]
    found += [
        f"[{name}] has no link."
        for title in (first, *released)
        for name in re.findall(r"^\[([^]]+)\]", title)
        if not re.search(rf"^\[{re.escape(name)}\]: https://\S+$", changelog, flags=re.MULTILINE)
    ]
    return found


def test_the_changelog_is_in_order_and_not_ahead_of_the_version() -> None:
    version = project(ROOT)["version"]

    assert isinstance(version, str)
    assert problems(CHANGELOG.read_text(), version) == []


def test_every_distribution_has_the_version_of_the_workspace() -> None:
    version = project(ROOT)["version"]

    assert [project(folder)["version"] for folder in members()] == [version] * len(members())


def test_the_server_takes_the_client_of_its_own_version() -> None:
    client, server = (project(ROOT / folder) for folder in ("clients/python", "server"))

    assert isinstance(server["dependencies"], list)
    assert f"ingot-client=={client['version']}" in server["dependencies"]


GOOD = """\
# Changelog

## [Unreleased]

## [1.10.0] - 2026-03-02

### Fixed

- A mistake.

## [1.9.0] - 2026-03-02

[Unreleased]: https://example.com/compare/v1.10.0...HEAD
[1.10.0]: https://example.com/compare/v1.9.0...v1.10.0
[1.9.0]: https://example.com/releases/v1.9.0
"""


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("# Changelog\n", "# History\n", "The title is not"),
        ("## [Unreleased]\n", "", "The first section is not"),
        ("## [1.9.0] - 2026-03-02", "## 1.9.0 (2026-03-02)", "is not '[version] - date'"),
        ("## [1.9.0]", "## [1.11.0]", "not in order"),
        ("1.9.0] - 2026-03-02", "1.9.0] - 2026-03-03", "not in order"),
        ("### Fixed", "### Repaired", "'Repaired' is not a kind of change."),
        ("[1.9.0]: https", "[1.9]: https", "[1.9.0] has no link."),
    ],
)
def test_a_changelog_out_of_format_is_noticed(before: str, after: str, problem: str) -> None:
    assert problems(GOOD, "1.10.0") == []
    assert problem in " ".join(problems(GOOD.replace(before, after), "1.10.0"))


def test_a_release_newer_than_the_version_is_noticed() -> None:
    assert problems(GOOD, "1.9.0") == ["1.10.0 is newer than the version 1.9.0 in pyproject.toml."]
    assert problems(GOOD, "1.11.0") == []
