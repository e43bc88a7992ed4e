from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.setting_values import SettingError
from ingot_server.source_settings import DEFAULTS, SourceSettings, read_source_settings
from ingot_server.sources import SOURCES

NAMES = ("youtube", "http")
COOKIE = "#HttpOnly_.youtube.com\tTRUE\t/\tTRUE\t0\tSID\tvalue\n"


def read(folder: Path, text: str) -> SourceSettings:
    path = folder / "sources.toml"
    path.write_text(text)
    return read_source_settings(Settings(sources_file=str(path)), NAMES)["youtube"]


def test_without_a_file_each_source_has_its_defaults() -> None:
    found = read_source_settings(Settings(), NAMES)
    assert found == {"youtube": DEFAULTS["youtube"], "http": SourceSettings()}
    assert (found["youtube"].rate, found["youtube"].rate_period) == (300, timedelta(hours=1))


def test_every_default_is_for_an_existing_source() -> None:
    assert set(DEFAULTS) <= {source.name for source in SOURCES}


def test_each_key_is_read_and_the_others_keep_their_default(tmp_path: Path) -> None:
    (tmp_path / "cookies.txt").write_text("# Netscape HTTP Cookie File\n\n" + COOKIE)
    assert read(
        tmp_path,
        """
        [youtube]
        cookies = "cookies.txt"
        proxy = "http://name:pass@proxy.example:3128"
        rate = "2/m"
        burst = 3
        concurrency = 0
        bandwidth = "1.5MiB"
        block = "500ms"
        longest_block = "2h"
        """,
    ) == SourceSettings(
        cookies=tmp_path / "cookies.txt",
        proxy="http://name:pass@proxy.example:3128",
        rate=2,
        rate_period=timedelta(minutes=1),
        burst=3,
        concurrency=0,
        bandwidth=3 << 19,
        block=timedelta(milliseconds=500),
        longest_block=timedelta(hours=2),
    )
    assert read(tmp_path, "[youtube]\nrate = 0").rate == 0
    assert read(tmp_path, "[youtube]\nbandwidth = 0").bandwidth == 0
    assert read(tmp_path, "[youtube]\nburst = 5") == SourceSettings(
        rate=300, burst=5, concurrency=8
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[youtub]\nrate = 0", "youtub"),
        ("youtube = 1", "youtube"),
        ("[youtube]\nrates = 1", "rates"),
        ("[youtube]\nrate = 5", "rate"),
        ('[youtube]\nrate = "5/y"', "rate"),
        ("[youtube]\nburst = 0", "burst"),
        ("[youtube]\nconcurrency = true", "concurrency"),
        ("[youtube]\nconcurrency = -1", "concurrency"),
        ('[youtube]\nbandwidth = "63KiB"', "bandwidth"),
        ('[youtube]\nbandwidth = "fast"', "bandwidth"),
        ("[youtube]\nbandwidth = 5000000", "bandwidth"),
        ('[youtube]\nblock = "soon"', "block"),
        ("[youtube]\nlongest_block = 0", "longest_block"),
        ('[youtube]\nproxy = "socks5://hunter2@h:1"', "proxy"),
        ('[youtube]\nproxy = "http://a:hunter2@h"', "proxy"),
        ('[youtube]\nproxy = "http://a:hunter2@h:99999"', "proxy"),
        ("[youtube]\nproxy = 1", "proxy"),
        ('[youtube]\ncookies = "absent.txt"', "cookies"),
        ('[youtube]\ncookies = "sources.toml"', "cookies"),
        ("[youtube", "TOML"),
    ],
)
def test_an_unusable_value_is_named_and_secrets_are_not_shown(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(SettingError, match=r"INGOT_SOURCES_FILE: ") as raised:
        read(tmp_path, text)
    assert named in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_cookies_file_begins_as_yt_dlp_requires(tmp_path: Path) -> None:
    (tmp_path / "cookies.txt").write_text(COOKIE)
    with pytest.raises(SettingError, match="does not begin with the line `# Netscape HTTP Cookie"):
        read(tmp_path, '[youtube]\ncookies = "cookies.txt"')


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"absent\.toml cannot be read"):
        read_source_settings(Settings(sources_file=str(tmp_path / "absent.toml")), NAMES)


def test_a_proxys_password_does_not_show(tmp_path: Path) -> None:
    settings = read(tmp_path, '[youtube]\nproxy = "http://a:hunter2@h:1"')
    assert "hunter2" not in f"{settings!r} {settings}"
