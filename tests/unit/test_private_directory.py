"""A directory that another user can change is not used."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.local.datadir_lock import lock_data_dir
from ingot_server.private_directory import UnsafeDirectory, check_private, make_private_directory
from ingot_server.setting_values import SettingError
from ingot_server.transfer.scratch import Scratch

OTHER_USER = 12_345
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")


def _directory_of_another_user(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, OTHER_USER, -1)


def _link_of_another_user(path: Path) -> None:
    path.symlink_to(path.parent)
    os.chown(path, OTHER_USER, -1, follow_symlinks=False)


def _link_to_another_user(path: Path) -> None:
    target = path.with_name("target")
    _directory_of_another_user(target)
    path.symlink_to(target)


def _writable_by_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o1777)


def _writable_by_a_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(_directory_of_another_user, "another user", marks=needs_root),
        pytest.param(_link_of_another_user, "another user", marks=needs_root),
        pytest.param(_link_to_another_user, "another user", marks=needs_root),
        (_writable_by_all, "chmod go-w"),
        (_writable_by_a_group, "chmod go-w"),
    ],
)
async def test_what_another_user_can_change_is_refused_with_what_to_do(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    make(place)
    kept = tmp_path / "someone's"
    kept.mkdir()
    with pytest.raises(UnsafeDirectory, match=said):
        check_private(place)
    with pytest.raises(SettingError, match=f"INGOT_SCRATCH_DIR: .*{said}"):
        await Scratch(Settings(scratch_dir=place)).start()
    with pytest.raises(SettingError, match=f"INGOT_DATA_DIR: .*{said}"):
        async with lock_data_dir(place):
            pass
    assert kept.is_dir()


def test_a_new_directory_is_for_this_user_alone(tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    make_private_directory(place)
    assert place.stat().st_mode & 0o777 == 0o700
    make_private_directory(place)


def test_a_link_of_this_user_may_lead_to_a_larger_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "place").symlink_to(tmp_path / "disk")
    check_private(tmp_path / "place")


def test_the_default_scratch_directories_of_two_users_differ() -> None:
    assert Settings().scratch_dir.name.endswith(f"-{os.getuid()}")
