from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.process.machine_memory import machine_memory_bytes
from ingot_server.setting_values import ByteSize
from ingot_server.transcode.memory_limit import conversion_memory_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MIB, GIB = 1 << 20, 1 << 30


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, MACHINE),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("0::/\n", {"memory.max": f"{300 * MIB}\n"}, 300 * MIB),
        (
            "0::/a.slice/b.service\n",
            {"a.slice/memory.max": f"{200 * MIB}\n", "a.slice/b.service/memory.max": "max\n"},
            200 * MIB,
        ),
        ("0::/of/the/host\n", {"memory.max": f"{100 * MIB}\n"}, 100 * MIB),
        (
            "7:cpu,cpuacct:/x\n5:memory:/docker/1\n",
            {"memory/docker/1/memory.limit_in_bytes": f"{50 * MIB}\n"},
            50 * MIB,
        ),
        ("5:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
    ],
)
def test_the_least_limit_counts(
    tmp_path: Path, groups: str, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    assert machine_memory_bytes(tmp_path) == expected


@pytest.mark.parametrize(
    ("setting", "machine", "expected"),
    [(0, 64 * GIB, 4 * GIB), (0, 6 * GIB, 3 * GIB), (0, GIB, GIB), (300 * MIB, GIB, 300 * MIB)],
)
def test_a_conversion_gets_what_the_machine_has(setting: int, machine: int, expected: int) -> None:
    settings = Settings(conversion_memory=ByteSize(setting))

    assert conversion_memory_bytes(settings, machine) == expected
