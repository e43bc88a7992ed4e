"""The rules by which stored media items are removed, from the file INGOT_RETENTION_FILE.

    [[rule]]
    name = "news"
    match = { labels = { show = "news" }, source = "youtube" }
    keep_latest = 10
    per = "uploader"

    [[rule]]
    name = "disk"
    max_bytes = "800GiB"

A rule is about the media items that match all that `match` names; without `match`, about all. It
removes those that are past one of its limits, and never a pinned one. docs/retention.md describes
each key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from ingot.v1.media_pb2 import MediaKind
from ingot_server.config import Settings
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.setting_values import SettingError, parse_bytes, parse_duration, read_setting_file
from ingot_server.watched_file import FileVersion, changes, file_version

logger = EventLogger(__name__)

VARIABLE: Final = "INGOT_RETENTION_FILE"

PER_LABEL: Final = "label:"
"""What `per` begins with that names a label."""

_KINDS: Final[Mapping[str, MediaKind.ValueType]] = {
    name.removeprefix("MEDIA_KIND_").lower(): number for name, number in MediaKind.items() if number
}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?")
_RULE_KEYS: Final = ("name", "match", "max_age", "max_bytes", "min_free", "keep_latest", "per")
_MATCH_KEYS: Final = ("labels", "source", "uploader", "owner", "kind", "derived")
_PER: Final = ("uploader", "owner", "source")
_MOST_LATEST: Final = 100_000
_LONGEST_AGE: Final = timedelta(days=36_500)


@dataclass(frozen=True, slots=True)
class Match:
    """Which media items a rule is about: those that match everything that is set."""

    labels: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    uploader: str = ""
    owner: str = ""
    kind: MediaKind.ValueType = MediaKind.MEDIA_KIND_UNSPECIFIED
    derived: bool | None = None
    """Whether they were converted from another media item; None if both match."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It has at least one of the four limits."""

    name: str
    match: Match = Match()
    max_age: timedelta | None = None
    """How long after its create_time a media item stays."""
    max_bytes: int = 0
    """How many bytes the media items have together, at most; zero means no limit."""
    min_free: int = 0
    """How many bytes stay free on the disk of INGOT_BUCKET_DIR, at least; zero means no limit."""
    keep_latest: int = 0
    """How many of the media items stay, those that were published last; zero means all."""
    per: str = ""
    """What `keep_latest` counts separately: `uploader`, `owner`, `source`, or a label, with
    PER_LABEL before its key. Empty if all are counted together."""

    @property
    def description(self) -> str:
        """What the rule removes, for people."""
        matching = [f"{key}={value}" for key, value in sorted(self.match.labels.items())]
        matching += [
            f"{name} {value}"
            for name, value in (
                ("source", self.match.source),
                ("uploader", self.match.uploader),
                ("owner", self.match.owner),
                ("kind", _name_of(self.match.kind)),
            )
            if value
        ]
        if self.match.derived is not None:
            matching.append("converted" if self.match.derived else "not converted")
        limits = [
            f"older than {_days(self.max_age)}" if self.max_age else "",
            f"beyond {_size(self.max_bytes)} in all" if self.max_bytes else "",
            f"until {_size(self.min_free)} are free" if self.min_free else "",
            f"all but the latest {self.keep_latest}{self.per and f' per {self.per}'}"
            if self.keep_latest
            else "",
        ]
        return f"{', '.join(matching) or 'all media'}: {'; '.join(filter(None, limits))}"


class RetentionRules:
    """The rules of the settings. `keep_current` reads the file again when it changes.

    Raises SettingError if the file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._path = Path(settings.retention_file) if settings.retention_file else None
        self._bucket_dir = settings.bucket_dir
        self._version: FileVersion = None
        self.rules = self._read()
        """In the order of the file. Empty without a file."""

    async def keep_current(self) -> None:
        """Read the file again each time that it has changed. Never ends.

        A file that cannot be used changes nothing, and is reported in the log once.
        """
        if self._path is None:
            return
        async for _ in changes(self._path, self._version):
            try:
                self.rules = await asyncio.to_thread(self._read)
            except SettingError as error:
                logger.error(Event.RETENTION_NOT_READ, "%s The rules stay as they were.", error)
            else:
                logger.info(Event.RETENTION_READ, "%s: %d rules", VARIABLE, len(self.rules))

    def _read(self) -> tuple[Rule, ...]:
        if self._path is None:
            return ()
        self._version = file_version(self._path)
        where = f"{VARIABLE}: {self._path}"
        rules = tuple(_rules(read_setting_file(VARIABLE, self._path), where))
        names = [rule.name for rule in rules]
        for name in names:
            if names.count(name) > 1:
                raise SettingError(f"{where}: two rules have the name {name!r}. Rename one.")
        needing = [rule.name for rule in rules if rule.min_free]
        if needing and not (self._bucket_dir and Path(self._bucket_dir).is_dir()):
            raise SettingError(
                f"{where}: ({needing[0]}) min_free: it needs INGOT_BUCKET_DIR, the directory of "
                f"the S3 server's data on this machine, which is {self._bucket_dir!r}. Use "
                "max_bytes if the server is on another machine."
            )
        return rules


def _rules(content: Mapping[str, object], where: str) -> Iterator[Rule]:
    entries = content.get("rule", [])
    if not isinstance(entries, list) or content.keys() - {"rule"}:
        raise SettingError(f"{where}: write each rule as a table, [[rule]], and nothing else.")
    for number, table in enumerate(entries, start=1):
        yield _rule(table, f"{where}: [[rule]] {number}")


def _rule(table: object, where: str) -> Rule:
    if not isinstance(table, dict) or table.keys() - set(_RULE_KEYS):
        raise SettingError(f"{where}: the keys are {', '.join(_RULE_KEYS)}.")
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingError(
            f"{where} name: use up to 63 letters, digits, `.`, `_` and `-`, and begin with a "
            "letter or a digit."
        )
    where = f"{where} ({name})"
    rule = Rule(
        name,
        _match(table.get("match", {}), f"{where} match"),
        _max_age(table.get("max_age"), f"{where} max_age"),
        _bytes(table.get("max_bytes"), f"{where} max_bytes"),
        _bytes(table.get("min_free"), f"{where} min_free"),
        _keep_latest(table.get("keep_latest"), f"{where} keep_latest"),
        _per(table.get("per"), f"{where} per"),
    )
    if rule.per and not rule.keep_latest:
        raise SettingError(f"{where} per: it counts for keep_latest, which the rule does not have.")
    if not (rule.max_age or rule.max_bytes or rule.min_free or rule.keep_latest):
        raise SettingError(
            f"{where}: give it one or more of max_age, max_bytes, min_free and keep_latest."
        )
    return rule


def _match(table: object, where: str) -> Match:
    if not isinstance(table, dict) or table.keys() - set(_MATCH_KEYS):
        raise SettingError(f"{where}: write a table with some of {', '.join(_MATCH_KEYS)}.")
    texts: dict[str, str] = {}
    for key in ("source", "uploader", "owner"):
        text = table.get(key, "")
        if not isinstance(text, str) or (key in table and not text):
            raise SettingError(f"{where}.{key}: write a text that is not empty.")
        texts[key] = text
    kind = table.get("kind")
    if kind is not None and (not isinstance(kind, str) or kind not in _KINDS):
        raise SettingError(f"{where}.kind: write one of {', '.join(_KINDS)}.")
    derived = table.get("derived")
    if derived is not None and not isinstance(derived, bool):
        raise SettingError(f"{where}.derived: write true or false.")
    return Match(
        labels=_labels(table.get("labels", {}), f"{where}.labels"),
        kind=_KINDS[kind] if kind else MediaKind.MEDIA_KIND_UNSPECIFIED,
        derived=derived,
        **texts,
    )


def _labels(table: object, where: str) -> Mapping[str, str]:
    if not isinstance(table, dict) or not all(
        _LABEL.fullmatch(key) and isinstance(value, str) for key, value in table.items()
    ):
        raise SettingError(f"{where}: write a table of labels, such as {{ show = 'news' }}.")
    return dict(table)


def _max_age(value: object, where: str) -> timedelta | None:
    if value is None:
        return None
    try:
        age = parse_duration(value) if isinstance(value, str) else timedelta()
    except ValueError:
        age = timedelta()
    if not timedelta() < age <= _LONGEST_AGE:
        raise SettingError(
            f"{where}: write a duration such as '30d' or '12h', more than zero and at most "
            f"{_LONGEST_AGE.days}d."
        )
    return age


def _bytes(value: object, where: str) -> int:
    if value is None:
        return 0
    try:
        size = int(parse_bytes(value)) if isinstance(value, str) else 0
    except ValueError:
        size = 0
    if not size:
        raise SettingError(f"{where}: write a size such as '500GiB', more than zero.")
    return size


def _keep_latest(value: object, where: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST_LATEST:
        raise SettingError(f"{where}: write a whole number from 1 to {_MOST_LATEST}.")
    return value


def _per(value: object, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str) and (
        value in _PER
        or (value.startswith(PER_LABEL) and _LABEL.fullmatch(value.removeprefix(PER_LABEL)))
    ):
        return value
    raise SettingError(
        f"{where}: write one of {', '.join(_PER)}, or a label such as '{PER_LABEL}show'."
    )


def _name_of(kind: MediaKind.ValueType) -> str:
    return next((name for name, number in _KINDS.items() if number == kind), "")


def _size(size_bytes: int) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size_bytes >= 1 << power:
            return f"{size_bytes / (1 << power):g} {unit}"
    return f"{size_bytes} bytes"


def _days(age: timedelta) -> str:
    hours, rest = divmod(age.total_seconds(), 3600)
    if rest:
        return f"{age.total_seconds():g} s"
    return f"{hours / 24:g} d" if hours % 24 == 0 else f"{hours:g} h"
