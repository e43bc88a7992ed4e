"""Rules of retention are read as they are written, and a wrong one is named with its field."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import pytest

from ingot.v1.media_pb2 import MediaKind
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.retention_rules import Match, RetentionRules, Rule
from ingot_server.setting_values import SettingError
from tests.waiting import until

WHOLE = """
[[rule]]
name = "news"
match.labels = { show = "news" }
match.source = "youtube"
match.uploader = "Ada"
match.owner = "ci"
match.kind = "video"
match.derived = false
max_age = "30d"
max_bytes = "1.5TiB"
keep_latest = 10
per = "label:show"

[[rule]]
name = "disk"
max_bytes = "800GiB"
"""


def read(tmp_path: Path, text: str) -> RetentionRules:
    path = tmp_path / "retention.toml"
    path.write_text(text)
    return RetentionRules(Settings(retention_file=str(path)))


def test_rules_are_what_the_file_says(tmp_path: Path) -> None:
    news, disk = read(tmp_path, WHOLE).rules

    assert news == Rule(
        "news",
        Match({"show": "news"}, "youtube", "Ada", "ci", MediaKind.MEDIA_KIND_VIDEO, derived=False),
        timedelta(days=30),
        max_bytes=3 << 39,
        keep_latest=10,
        per="label:show",
    )
    assert news.description == (
        "show=news, source youtube, uploader Ada, owner ci, kind video, not converted: "
        "older than 30 d; beyond 1.5 TiB in all; all but the latest 10 per label:show"
    )
    assert disk == Rule("disk", max_bytes=800 << 30)
    assert disk.description == "all media: beyond 800 GiB in all"


def test_without_a_file_there_are_no_rules(tmp_path: Path) -> None:
    assert RetentionRules(Settings()).rules == ()
    assert read(tmp_path, "").rules == ()


RULE = '[[rule]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("rule", "not valid TOML"),
        ("[rule]", "[[rule]], and nothing else"),
        ('name = "a"', "[[rule]], and nothing else"),
        ("[[rule]]\nmax_age = '1d'", "[[rule]] 1 name: use up to 63"),
        ('[[rule]]\nname = "a b"', "[[rule]] 1 name: use up to 63"),
        (f"{RULE}age = 5", "[[rule]] 1: the keys are name, match"),
        (RULE, "(a): give it one or more of"),
        (f"{RULE}max_age = 30", "(a) max_age: write a duration"),
        (f"{RULE}max_age = '0d'", "(a) max_age: write a duration"),
        (f"{RULE}max_age = '99999d'", "(a) max_age: write a duration"),
        (f"{RULE}max_age = 'a month'", "(a) max_age: write a duration"),
        (f"{RULE}max_bytes = 1", "(a) max_bytes: write a size"),
        (f"{RULE}max_bytes = '0GiB'", "(a) max_bytes: write a size"),
        (f"{RULE}min_free = '1 GB'", "(a) min_free: write a size"),
        (f"{RULE}min_free = '1GiB'", "(a) min_free: it needs INGOT_BUCKET_DIR"),
        (f"{RULE}keep_latest = 0", "(a) keep_latest: write a whole number"),
        (f"{RULE}keep_latest = true", "(a) keep_latest: write a whole number"),
        (f"{RULE}keep_latest = 1\nper = 'show'", "(a) per: write one of uploader"),
        (f"{RULE}keep_latest = 1\nper = 'label:A'", "(a) per: write one of uploader"),
        (f"{RULE}max_age = '1d'\nper = 'owner'", "(a) per: it counts for keep_latest"),
        (f"{RULE}match = 'all'", "(a) match: write a table with some of labels"),
        (f"{RULE}match = {{ label = 1 }}", "(a) match: write a table with some of labels"),
        (f"{RULE}match = {{ labels = {{ a = 1 }} }}", "(a) match.labels: write a table of labels"),
        (f"{RULE}match = {{ source = '' }}", "(a) match.source: write a text"),
        (f"{RULE}match = {{ kind = 'film' }}", "(a) match.kind: write one of video"),
        (f"{RULE}match = {{ kind = ['video'] }}", "(a) match.kind: write one of video"),
        (f"{RULE}match = {{ derived = 'no' }}", "(a) match.derived: write true or false"),
        (f"{RULE}max_age = '1d'\n{RULE}max_age = '2d'", "two rules have the name 'a'"),
    ],
)
def test_a_rule_that_cannot_be_used_is_named_with_its_field(
    tmp_path: Path, text: str, wrong: str
) -> None:
    with pytest.raises(SettingError, match=re.escape(wrong)) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith("INGOT_RETENTION_FILE: ")


async def test_a_changed_file_is_read_again_and_a_wrong_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retention = read(tmp_path, f"{RULE}max_age = '1d'")
    following = asyncio.create_task(retention.keep_current())
    path = tmp_path / "retention.toml"

    path.write_text("[rule]")
    await until(lambda: "The rules stay as they were." in caplog.text)
    assert [rule.max_age for rule in retention.rules] == [timedelta(days=1)]

    path.write_text(f"{RULE}max_age = '48h'")
    await until(lambda: retention.rules[0].max_age == timedelta(days=2))
    await cancel_and_wait(following)
