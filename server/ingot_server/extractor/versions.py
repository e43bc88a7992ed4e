"""The versions of yt-dlp beside the one released with Ingot, and which of them is in use.

    <extractors_dir>/
        in-use.json   {"current": "2026.9.1", "previous": "released", "released": "2026.8.19"}
        lock          locked by who installs, switches or removes
        checked       locked by who tries the canaries; its time is when that began last
        2026.9.1/     yt_dlp, yt_dlp_ejs and what else this version needs
        .new-*/       an installation under way, or one that was killed

What always holds: a version's directory appears complete, by a rename; `in-use.json` is replaced
whole. So whoever reads, without a lock and at any time, finds what was before a change or what is
after it, and workers see a change at their next job. What cannot be used is no error to a job: it
gets the released version, and the log says why. The directory may be one machine's or shared.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import logging
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from ingot_server.config import Settings

logger = logging.getLogger(__name__)

RELEASED: Final = "released"
"""Stands for the version that came with Ingot, which is no directory."""

_STATE: Final = "in-use.json"
_NEW: Final = ".new-"
_KEPT: Final = timedelta(days=7)
_VERSION: Final = re.compile(r"\d[\w.]{0,62}", re.ASCII)


class ExtractorError(Exception):
    """What was asked for cannot be done; says why, and what helps."""


class Locked(ExtractorError):
    """Another process, here or on another machine, is at it now."""


@dataclass(frozen=True, slots=True)
class InUse:
    """Each version is RELEASED or the name of a directory."""

    current: str = RELEASED
    previous: str = RELEASED
    released: str = ""
    """What RELEASED stood for at the switch; empty: there was none."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One version, by its number; `install_time` is None for the released one."""

    version: str
    install_time: datetime | None
    in_use: bool
    previous: bool


class Versions:
    """The versions in one directory, which need not exist. Changes are made under `locked`."""

    def __init__(self, settings: Settings) -> None:
        self.directory = (
            Path(settings.extractors_dir or settings.data_dir / "extractors")
        ).absolute()
        self.released = importlib.metadata.version("yt-dlp")
        self._said = ""

    def place(self) -> Path | None:
        """The directory of the version in use; None: the released one is."""
        version = self.in_use().current
        return None if version == RELEASED else self.directory / version

    @property
    def version(self) -> str:
        """The number of the version in use."""
        return self.number(self.in_use().current)

    def number(self, version: str) -> str:
        """What RELEASED stands for; any other version is its number."""
        return self.released if version == RELEASED else version

    def in_use(self) -> InUse:
        """What is run now: what was switched to, unless that is gone or Ingot came with a newer."""
        state = self._read()
        current = state.current
        if current == RELEASED:
            return state
        if self.released != state.released and order(self.released) > order(current):
            self._say(f"yt-dlp {self.released} of this release is newer than {current}, and used")
        elif not self._is_whole(current):
            self._say(f"yt-dlp {current} is not in {self.directory}; {self.released} is used")
        else:
            return state
        return InUse(RELEASED, RELEASED, self.released)

    def all(self) -> list[Installed]:
        """Every version that can be used, newest first."""
        state = self.in_use()
        names = (
            (entry.name for entry in self.directory.iterdir()) if self.directory.is_dir() else ()
        )
        found = [name for name in names if self._is_whole(name)]
        versions = [
            Installed(
                self.number(version),
                None if version == RELEASED else self._install_time(version),
                version == state.current,
                version == state.previous != state.current,
            )
            for version in (RELEASED, *found)
        ]
        return sorted(versions, key=lambda one: order(one.version), reverse=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps others from changing anything. Raises Locked when another does."""
        with _flock(self._writable() / "lock") as lock:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield

    @contextlib.contextmanager
    def checking(self, interval: timedelta) -> Iterator[bool]:
        """Whether it is our turn to check: no check has begun for `interval`, on any machine.

        Raises Locked while another checks.
        """
        with _flock(self._writable() / "checked") as lock:
            due = os.fstat(lock).st_mtime + interval.total_seconds() <= time.time()
            due = due or os.fstat(lock).st_size == 0
            if due:
                os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                os.utime(lock)
            yield due

    def switch(self, version: str) -> InUse:
        """Puts `version` to use, a number or RELEASED, and remembers the one before.

        Raises ExtractorError for one that is not there.
        """
        target = RELEASED if version == self.released else version
        if target != RELEASED and not self._is_whole(target):
            raise ExtractorError(
                f"{version} is not installed. `ingot-server extractor list` shows what is, "
                f"`ingot-server extractor update {version}` installs it."
            )
        before = self.in_use()
        previous = before.previous if before.current == target else before.current
        self._write(InUse(target, previous, self.released))
        return self.in_use()

    def rollback(self) -> InUse:
        """Puts the previous version to use. Raises ExtractorError when there is none."""
        state = self.in_use()
        if state.previous == state.current:
            raise ExtractorError(f"There is nothing to go back to from {self.version}.")
        return self.switch(state.previous)

    def remove(self, version: str) -> None:
        """Removes one version. Raises ExtractorError where it is needed, or is not there."""
        state = self.in_use()
        if version in {self.released, RELEASED} or version in {state.current, state.previous}:
            raise ExtractorError(f"{version} stays: it is in use, or is what a rollback leads to.")
        if not self._is_whole(version):
            raise ExtractorError(f"{version} is not installed.")
        self._delete(self.directory / version)

    def prune(self) -> None:
        """Removes what killed installations left, and what has been of no use for a week."""
        for entry in self.directory.iterdir():
            if entry.name.startswith(_NEW):
                self._delete(entry)
        oldest = datetime.now(UTC) - _KEPT
        for one in self.all():
            if one.install_time and one.install_time < oldest and not (one.in_use or one.previous):
                self._delete(self.directory / one.version)

    @contextlib.contextmanager
    def building(self) -> Iterator[Path]:
        """An empty directory to install into; what is not handed to `add` is removed."""
        place = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._writable()))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def add(self, version: str, place: Path) -> None:
        """Makes a finished installation the version that it is; it is on the disk afterwards."""
        if not _VERSION.fullmatch(version):
            raise ExtractorError(f"What was installed calls itself {version!r}.")
        place.chmod(0o755)
        os.sync()  # its two thousand files, before their name
        target = self.directory / version
        if target.exists():
            self._delete(target)
        place.rename(target)
        _sync(self.directory)

    def _is_whole(self, version: str) -> bool:
        return (
            _VERSION.fullmatch(version) is not None
            and (self.directory / version / "yt_dlp" / "version.py").is_file()
        )

    def _install_time(self, version: str) -> datetime:
        return datetime.fromtimestamp((self.directory / version).stat().st_mtime, UTC)

    def _delete(self, place: Path) -> None:
        # Out of the way first: half a version must not be taken for one.
        gone = Path(tempfile.mkdtemp(prefix=_NEW, dir=self.directory))
        place.rename(gone / place.name)
        shutil.rmtree(gone, ignore_errors=True)

    def _read(self) -> InUse:
        try:
            found = json.loads((self.directory / _STATE).read_text())
            return InUse(**{name: str(value) for name, value in found.items()})
        except FileNotFoundError:
            return InUse(released=self.released)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self._say(f"{self.directory / _STATE} cannot be used: {error}; {self.released} is used")
            return InUse(released=self.released)

    def _write(self, state: InUse) -> None:
        path = self._writable() / f".{_STATE}"
        with path.open("w") as file:
            file.write(json.dumps(asdict(state)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.replace(self.directory / _STATE)
        _sync(self.directory)

    def _writable(self) -> Path:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.directory, error) from error
        if not os.access(self.directory, os.W_OK):
            raise ExtractorError(f"{self.directory} (INGOT_EXTRACTORS_DIR) cannot be written to.")
        return self.directory

    def _say(self, message: str) -> None:
        if message != self._said:
            self._said = message
            logger.warning("%s", message)


@contextlib.contextmanager
def _flock(path: Path) -> Iterator[int]:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
            raise Locked(f"{path} is locked by {holder}. Try again later.") from error
        yield lock
    finally:
        os.close(lock)


def _unusable(path: Path, error: OSError) -> ExtractorError:
    return ExtractorError(f"{path} (INGOT_EXTRACTORS_DIR) cannot be used: {error.strerror}.")


def order(version: str) -> tuple[int, ...]:
    """Sorts releases by their day; a nightly is later than the release of its day."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
