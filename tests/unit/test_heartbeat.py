"""What `ingot-server health` says of a process from its heartbeat alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.health import require_health
from ingot_server.heartbeat import Unhealthy, beating
from ingot_server.setting_values import SettingError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(heartbeat_file=str(tmp_path / "heartbeat"))


@pytest.mark.parametrize("live", [True, False])
async def test_a_worker_is_healthy_while_its_loop_turns(settings: Settings, live: bool) -> None:
    async with beating(settings):
        require_health(settings, live=live)
    file = Path(settings.heartbeat_file)
    assert list(file.parent.iterdir()) == [file]
    os.utime(file, (0, 0))
    with pytest.raises(Unhealthy, match="has ended, or hangs"):
        require_health(settings, live=live)


async def test_a_server_lives_before_it_serves(settings: Settings, closed_port: int) -> None:
    async with beating(settings, f"127.0.0.1:{closed_port}"):
        require_health(settings, live=True)
        with pytest.raises(Unhealthy, match="UNAVAILABLE"):
            require_health(settings, live=False)


def test_a_process_without_a_heartbeat_does_not_live(settings: Settings) -> None:
    with pytest.raises(Unhealthy, match="There is no heartbeat in"):
        require_health(settings, live=False)
    with pytest.raises(Unhealthy, match="INGOT_HEARTBEAT_FILE is not set"):
        require_health(Settings(), live=True)


async def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    settings = Settings(heartbeat_file=str(tmp_path / "missing" / "heartbeat"))
    with pytest.raises(SettingError, match=r"INGOT_HEARTBEAT_FILE: .*missing"):
        async with beating(settings):
            pass
