"""One version in every package, and one command that writes it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from release import versions


def test_every_place_has_the_version_of_the_workspace() -> None:
    assert versions.problems() == []


def test_a_version_is_written_into_every_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in versions.PLACES:
        copy = tmp_path / place.path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(versions.ROOT / place.path, copy)
    monkeypatch.setattr(versions, "ROOT", tmp_path)

    versions.main(["9.8.7"])

    assert versions.current() == "9.8.7"
    assert versions.problems() == []
    server = tmp_path / "server/pyproject.toml"
    assert server.read_text().count("9.8.7") == 2


def test_a_place_with_another_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_a_version_is_written_into_every_place(tmp_path, monkeypatch)
    chart = tmp_path / "deploy/helm/ingot/Chart.yaml"
    chart.write_text(chart.read_text().replace("\nversion: 9.8.7", "\nversion: 9.8.8"))

    [problem] = versions.problems()

    assert problem.startswith("deploy/helm/ingot/Chart.yaml has ['9.8.8']")


@pytest.mark.parametrize("text", ["v1.2.3", "1.2", "1.2.3rc1", ""])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(SystemExit, match="is not a version"):
        versions.main([text])
