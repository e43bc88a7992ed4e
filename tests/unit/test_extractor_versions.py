"""Which yt-dlp is in use, by what is in the directory. The versions here are empty packages."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.extractor.versions import RELEASED, ExtractorError, InUse, Versions, order


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(Settings(data_dir=tmp_path))


def install(versions: Versions, *names: str) -> None:
    with versions.locked():
        for name in names:
            with versions.building() as place:
                (place / "yt_dlp").mkdir()
                (place / "yt_dlp" / "version.py").write_text("")
                versions.add(name, place)


def test_the_released_version_is_used_where_no_other_is(versions: Versions) -> None:
    assert versions.directory_in_use() is None
    assert versions.version == versions.released
    assert [one.version for one in versions.all()] == [versions.released]
    assert not versions.directory.exists()


def test_the_directory_is_a_setting(tmp_path: Path) -> None:
    assert Versions(Settings(data_dir=tmp_path)).directory == tmp_path / "extractors"
    elsewhere = Settings(data_dir=tmp_path, extractors_dir=str(tmp_path / "shared"))
    assert Versions(elsewhere).directory == tmp_path / "shared"


def test_a_switch_is_seen_by_others_and_can_be_undone(versions: Versions, tmp_path: Path) -> None:
    other = Versions(Settings(data_dir=tmp_path))
    install(versions, "2099.1.1", "2099.2.1")

    versions.switch("2099.1.1")
    assert other.directory_in_use() == versions.directory / "2099.1.1"
    versions.switch("2099.2.1")
    assert other.version == "2099.2.1"
    versions.rollback()
    assert other.version == "2099.1.1"
    versions.rollback()
    assert other.version == "2099.2.1"
    versions.switch(RELEASED)
    assert other.directory_in_use() is None
    versions.switch(versions.released)
    assert versions.in_use() == InUse(RELEASED, "2099.2.1", versions.released)


def test_a_rollback_without_a_previous_version_says_so(versions: Versions) -> None:
    with pytest.raises(ExtractorError, match="no previous version to roll back to"):
        versions.rollback()


@pytest.mark.parametrize("name", ["2099.1.1", "", "..", "../x", "lock", "2099.1.1/yt_dlp"])
def test_what_is_not_installed_cannot_be_used(versions: Versions, name: str) -> None:
    with pytest.raises(ExtractorError, match="not installed"):
        versions.switch(name)
    assert versions.directory_in_use() is None


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"current": 1}', '{"current": "../x"}', '{"other": "1"}']
)
def test_a_pointer_that_cannot_be_used_leads_to_the_released_version(
    versions: Versions, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    install(versions, "2099.1.1")
    (versions.directory / "in-use.json").write_text(content)

    assert [versions.directory_in_use(), versions.directory_in_use()] == [None, None]
    assert len(caplog.records) == 1
    versions.switch("2099.1.1")
    assert versions.version == "2099.1.1"


def test_a_version_that_vanished_gives_way_to_the_released_one(
    versions: Versions, caplog: pytest.LogCaptureFixture
) -> None:
    install(versions, "2099.1.1")
    versions.switch("2099.1.1")
    (versions.directory / "2099.1.1" / "yt_dlp" / "version.py").unlink()

    with caplog.at_level(logging.WARNING):
        assert [versions.directory_in_use(), versions.directory_in_use()] == [None, None]
    assert [record.getMessage() for record in caplog.records] == [
        f"yt-dlp 2099.1.1 is missing from {versions.directory}; {versions.released} is used"
    ]


def test_a_newer_released_version_wins_and_an_older_one_does_not(versions: Versions) -> None:
    install(versions, "2099.1.1")
    versions.switch("2099.1.1")

    versions.released = "2098.12.1"
    assert versions.version == "2099.1.1"
    versions.released = "2099.3.1"
    assert versions.version == "2099.3.1"
    assert versions.directory_in_use() is None


def test_a_version_older_than_the_released_one_is_used_when_it_is_asked_for(
    versions: Versions,
) -> None:
    install(versions, "2001.1.1")
    versions.switch("2001.1.1")
    assert versions.version == "2001.1.1"


def test_what_is_needed_stays_and_the_rest_goes(versions: Versions) -> None:
    install(versions, "2099.1.1", "2099.2.1", "2099.3.1", "2099.4.1")
    for name in ("2099.1.1", "2099.2.1"):
        versions.switch(name)
    for name in ("2099.1.1", "2099.2.1", versions.released, "2099.9.9"):
        with pytest.raises(ExtractorError):
            versions.remove(name)
    month_ago = (versions.directory / "2099.3.1").stat().st_mtime - 30 * 86400
    for name in ("2099.1.1", "2099.3.1"):
        os.utime(versions.directory / name, (month_ago, month_ago))
    (versions.directory / ".new-killed" / "yt_dlp").mkdir(parents=True)

    versions.prune()

    assert sorted(entry.name for entry in versions.directory.iterdir()) == [
        *("2099.1.1", "2099.2.1", "2099.4.1", "in-use.json", "lock")
    ]
    versions.remove("2099.4.1")
    assert [one.version for one in versions.all()] == ["2099.2.1", "2099.1.1", versions.released]


def test_an_unfinished_installation_is_not_a_version(versions: Versions) -> None:
    with versions.locked(), versions.building() as place:
        (place / "yt_dlp").mkdir()
        (place / "yt_dlp" / "version.py").write_text("")
        assert [one.version for one in versions.all()] == [versions.released]
    assert not place.exists()


def test_one_at_a_time_changes_anything(versions: Versions, tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from ingot_server.config import Settings\n"
        "from ingot_server.extractor.versions import Versions, ExtractorError\n"
        "try:\n"
        "    with Versions(Settings(data_dir=pathlib.Path(sys.argv[1]))).locked(): pass\n"
        "except ExtractorError as error: print(error)\n"
    )

    def attempt() -> str:
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with versions.locked():
        assert f"locked by process {os.getpid()}" in attempt()
    assert attempt() == ""


def test_a_check_is_due_once_in_its_interval(versions: Versions, tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    other = Versions(Settings(data_dir=tmp_path))
    with versions.checking(hour) as is_turn:
        assert is_turn
        with pytest.raises(ExtractorError, match="locked by"), other.checking(hour):
            pass
    with other.checking(hour) as is_turn:
        assert not is_turn
    with other.checking(timedelta(0)) as is_turn:
        assert is_turn


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    versions = Versions(Settings(extractors_dir=str(tmp_path / "file" / "extractors")))
    with pytest.raises(ExtractorError, match="INGOT_EXTRACTORS_DIR"), versions.locked():
        pass
    assert versions.directory_in_use() is None


def test_the_pointer_says_what_is_in_use(versions: Versions) -> None:
    install(versions, "2099.1.1")
    versions.switch("2099.1.1")
    assert json.loads((versions.directory / "in-use.json").read_text()) == {
        "current": "2099.1.1",
        "previous": "released",
        "released": versions.released,
    }


def test_releases_are_ordered_by_their_day() -> None:
    ascending = ["2025.12.8", "2026.1.29", "2026.10.26", "2026.10.26.220202dev", "2026.11.1"]
    assert sorted(ascending, key=order) == ascending
