"""The versions of yt-dlp that are installed in addition to the released one, and which is in use.

    <extractors_dir>/
        in-use.json   {"current": "2026.9.1", "previous": "released", "released": "2026.8.19"}
        lock          locked while a version is installed, switched to or removed
        checked       locked while the canaries are tested; its mtime is when that last began
        2026.9.1/     yt_dlp, yt_dlp_ejs and whatever else this version needs
        .new-*/       an installation in progress, or one that was killed

Invariants: a version's directory appears complete, by a rename, and `in-use.json` is replaced as a
whole. So a reader needs no lock and sees the state before or after a change. Workers use a change
from their next job on. If a version cannot be used, the job runs the released one and the log says
why. The directory may be local or shared between machines.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
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
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event

logger = EventLogger(__name__)

RELEASED: Final = "released"
"""The version that was released with Ingot; it has no directory."""

_STATE: Final = "in-use.json"
_NEW: Final = ".new-"
_KEPT: Final = timedelta(days=7)
_VERSION: Final = re.compile(r"\d[\w.]{0,62}", re.ASCII)


class ExtractorError(Exception):
    """An operation on versions failed; the message says why, and what helps."""


class Locked(ExtractorError):
    """Another process, on this or another machine, holds the lock."""


@dataclass(frozen=True, slots=True)
class InUse:
    """The content of `in-use.json`. Each version is RELEASED or the name of a directory."""

    current: str = RELEASED
    previous: str = RELEASED
    released: str = ""
    """The number of the released version at the last switch; empty if there was none."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One installed version; `install_time` is None for the released one."""

    version: str
    install_time: datetime | None
    in_use: bool
    previous: bool


class Versions:
    """The versions in one directory, which may not exist yet. Change them only inside `locked`."""

    def __init__(self, settings: Settings) -> None:
        self.directory = (
            Path(settings.extractors_dir or settings.data_dir / "extractors")
        ).absolute()
        self.released = importlib.metadata.version("yt-dlp")
        self._last_warning = ""

    def directory_in_use(self) -> Path | None:
        """Return the directory of the version in use; None if that is the released one."""
        version = self.in_use().current
        return None if version == RELEASED else self.directory / version

    @property
    def version(self) -> str:
        """The version number in use."""
        return self.number(self.in_use().current)

    def number(self, version: str) -> str:
        """Return the number of a version; RELEASED stands for the released one's."""
        return self.released if version == RELEASED else version

    def in_use(self) -> InUse:
        """Return the versions in use.

        The released one is used if the selected one is gone, or if a new release of Ingot came with
        a newer one.
        """
        state = self._read()
        current = state.current
        if current == RELEASED:
            return state
        if self.released != state.released and order(self.released) > order(current):
            self._warn_once(
                f"yt-dlp {self.released} of this release is newer than {current}, so it is used"
            )
        elif not self._is_whole(current):
            self._warn_once(
                f"yt-dlp {current} is missing from {self.directory}; {self.released} is used"
            )
        else:
            return state
        return InUse(RELEASED, RELEASED, self.released)

    def all(self) -> list[Installed]:
        """Return every usable version, newest first."""
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
        """Hold the lock for changes. Raises Locked if another process holds it."""
        with _flock(self._writable() / "lock") as lock:
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield

    @contextlib.contextmanager
    def checking(self, interval: timedelta) -> Iterator[bool]:
        """Hold the lock for a check; yield whether one is due: none began within `interval`.

        Raises Locked while another process checks.
        """
        with _flock(self._writable() / "checked") as lock:
            due = os.fstat(lock).st_mtime + interval.total_seconds() <= time.time()
            due = due or os.fstat(lock).st_size == 0
            if due:
                os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                os.utime(lock)
            yield due

    def switch(self, version: str) -> InUse:
        """Use `version`, a number or RELEASED, and remember the previous one.

        Raises ExtractorError if it is not installed.
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
        """Use the previous version again. Raises ExtractorError if there is none."""
        state = self.in_use()
        if state.previous == state.current:
            raise ExtractorError(
                f"There is no previous version to roll back to from {self.version}."
            )
        return self.switch(state.previous)

    def remove(self, version: str) -> None:
        """Remove one version. Raises ExtractorError if it is needed or not installed."""
        state = self.in_use()
        if version in {self.released, RELEASED} or version in {state.current, state.previous}:
            raise ExtractorError(
                f"{version} cannot be removed: it is in use, or it is the previous version."
            )
        if not self._is_whole(version):
            raise ExtractorError(f"{version} is not installed.")
        self._delete(self.directory / version)

    def prune(self) -> None:
        """Remove what killed installations left, and versions unused for a week."""
        for entry in self.directory.iterdir():
            if entry.name.startswith(_NEW):
                self._delete(entry)
        oldest = datetime.now(UTC) - _KEPT
        for one in self.all():
            if one.install_time and one.install_time < oldest and not (one.in_use or one.previous):
                self._delete(self.directory / one.version)

    @contextlib.contextmanager
    def building(self) -> Iterator[Path]:
        """Make an empty directory to install into; it is removed unless it is passed to `add`."""
        place = Path(tempfile.mkdtemp(prefix=_NEW, dir=self._writable()))
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def add(self, version: str, place: Path) -> None:
        """Publish a finished installation under its version; it is on the disk afterwards."""
        if not _VERSION.fullmatch(version):
            raise ExtractorError(f"The installed package has an invalid version: {version!r}.")
        place.chmod(0o755)
        os.sync()  # its files, before the name that makes them visible
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
        # Renamed first, so that a partly deleted version is never used.
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
            self._warn_once(
                f"{self.directory / _STATE} is unreadable: {error}; {self.released} is used"
            )
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
            # Its code is run: others may read it, whatever the umask.
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.directory, error) from error
        if not os.access(self.directory, os.W_OK):
            raise ExtractorError(f"{self.directory} (INGOT_EXTRACTORS_DIR) cannot be written to.")
        return self.directory

    def _warn_once(self, message: str) -> None:
        if message != self._last_warning:
            self._last_warning = message
            logger.warning(Event.EXTRACTOR_FELL_BACK, "%s", message)


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
    """Return a sort key: releases by date; a nightly build is later than that day's release."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
