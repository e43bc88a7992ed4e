"""The wheels contain what a user of them needs besides the code."""

from __future__ import annotations

import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from hatchling.build import build_wheel

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("folder", "package"), [("clients/python", "ingot"), ("server", "ingot_server")]
)
def test_a_wheel_has_its_licence_and_its_types(
    folder: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / folder)

    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
        licence = wheel.read(f"{info}/licenses/LICENSE")
        metadata = message_from_bytes(wheel.read(f"{info}/METADATA"))
        names = wheel.namelist()

    assert licence == (ROOT / "LICENSE").read_bytes()
    assert f"{package}/py.typed" in names
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_wheel_of_the_server_has_the_whole_web_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT / "server")

    with zipfile.ZipFile(tmp_path / build_wheel(str(tmp_path))) as wheel:
        found = {name for name in wheel.namelist() if name.startswith("ingot_server/page/")}

    folder = ROOT / "server/ingot_server/page"
    built = {path for path in folder.rglob("*") if path.is_file()}
    assert found == {str(path.relative_to(ROOT / "server")) for path in built}
    assert "ingot_server/page/index.html" in found
