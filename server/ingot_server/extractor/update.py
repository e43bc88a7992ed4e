"""`ingot-server extractor`: installs versions of yt-dlp, tests them, and switches to them.

    uv installs into .new-* -> canaries run with that directory -> rename -> in use

uv downloads from the index that its own settings name. It installs only wheels, so no code of a
package runs before the test. It installs yt-dlp, the yt-dlp-ejs that this version pins, and those
optional dependencies that Ingot does not have in an accepted version. yt-dlp starts without the
optional ones, so a missing one is not a failure: the canaries show whether it matters.

Every function prints what it did, line by line. It raises ExtractorError if that failed, or
Failure if the version cannot be tested at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.extractor.canary import Sources, canaries, check, describe, try_version
from ingot_server.extractor.versions import ExtractorError, InUse, Versions, order
from ingot_server.log_events import Event

logger = EventLogger(__name__)

PrintLine = Callable[[str], None]

_INSTALL_SECONDS: Final = 600.0
_EXTRAS: Final = ("", "default", "curl-cffi")
# Pinned exactly, so it belongs to the version even if the one installed here would work today.
_ALWAYS: Final = frozenset({"yt-dlp-ejs"})
_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy")
_UNDO: Final = "`ingot-server extractor rollback` undoes it."


@dataclass(frozen=True, slots=True)
class UpdateRequest:
    """What to install."""

    version: str = ""
    """Empty means the newest."""
    nightly: bool = False
    """Whether the newest may be one of yt-dlp's nightly builds, which registries call .dev0."""
    source: Path | None = None
    """A wheel, or a directory of wheels, to install from instead of the index."""
    tested: bool = True
    """Whether the canaries must work."""


async def update(
    versions: Versions,
    request: UpdateRequest,
    settings: Settings,
    sources: Sources,
    print_line: PrintLine,
) -> None:
    """Install a version, test it, and use it. A failure changes nothing."""
    with versions.locked():
        with versions.building() as directory:
            where = _source(request)
            found = await _download(directory, where, request, settings)
            version, running = found.version, versions.version
            if version == running:
                print_line(f"yt-dlp {version} is already in use.")
                return
            if not (request.version or request.source) and not _is_worth_switching(
                versions, version, print_line
            ):
                return
            print_line(f"yt-dlp {version} was downloaded; {running} is in use.")
            await _complete(directory, where, found, settings, print_line)
            await _test(versions, version, directory, request, settings, sources, print_line)
            if version != versions.released:
                versions.add(version, directory)
        _switched(versions, versions.switch(version), print_line)
        versions.prune()


async def use(versions: Versions, version: str, settings: Settings, print_line: PrintLine) -> None:
    """Use an installed version, or `released`, if it starts; no canary is tested."""
    with versions.locked():
        if version in {one.version for one in versions.all()}:
            directory = None if version == versions.released else versions.directory / version
            await try_version(directory, version, (), settings, {})
        _switched(versions, versions.switch(version), print_line)


def rollback(versions: Versions, print_line: PrintLine) -> None:
    """Use the previous version again."""
    with versions.locked():
        _switched(versions, versions.rollback(), print_line)


def remove(versions: Versions, version: str, print_line: PrintLine) -> None:
    """Remove a version that is not in use."""
    with versions.locked():
        versions.remove(version)
    print_line(f"yt-dlp {version} was removed.")


def show(versions: Versions, print_line: PrintLine) -> None:
    """Print one line for each version."""
    print_line(f"{'VERSION':<26} {'INSTALLED':<18} STATE")
    for one in versions.all():
        installed = f"{one.install_time:%Y-%m-%d %H:%M}" if one.install_time else "with Ingot"
        state = "in use" if one.in_use else "previous" if one.previous else ""
        print_line(f"{one.version:<26} {installed:<18} {state}".rstrip())


async def check_now(
    versions: Versions, settings: Settings, sources: Sources, print_line: PrintLine
) -> None:
    """Test the version in use with the canaries, and roll back if the previous one is better."""
    urls = canaries(settings)
    if not urls:
        raise ExtractorError(
            "INGOT_EXTRACTOR_CANARIES is empty. Set it to URLs that are known to work."
        )
    with versions.checking(timedelta(0)):
        checked = await check(versions, settings, sources)
    _print_results(checked.version, urls, checked.failures, print_line)
    if checked.back_to:
        print_line(
            f"yt-dlp {checked.back_to} works where {checked.version} fails, so it is in use again."
        )
    elif checked.failures:
        state = versions.in_use()
        other = versions.number(state.previous)
        raise ExtractorError(
            f"There is no previous version to roll back to from {checked.version}."
            if state.previous == state.current
            else f"{other} fails too: the site or this address is the cause. Nothing was changed."
        )


def _is_worth_switching(versions: Versions, version: str, print_line: PrintLine) -> bool:
    """Return whether to switch to the newest version, which the caller did not name."""
    running = versions.version
    if order(version) < order(running):
        print_line(f"yt-dlp {running} is in use; the newest available one is {version}.")
    elif version == versions.number(versions.in_use().previous):
        print_line(
            f"yt-dlp {version} was replaced by {running}. "
            f"`ingot-server extractor update {version}` uses it again."
        )
    else:
        return True
    return False


async def _test(
    versions: Versions,
    version: str,
    directory: Path,
    request: UpdateRequest,
    settings: Settings,
    sources: Sources,
    print_line: PrintLine,
) -> None:
    urls = canaries(settings) if request.tested else ()
    trial = None if version == versions.released else directory
    try:
        failures = await try_version(trial, version, urls, settings, sources)
    except Failure as failure:
        raise ExtractorError(f"{failure.message} {versions.version} stays in use.") from failure
    _print_results(version, urls, failures, print_line)
    if failures:
        with contextlib.suppress(Failure):
            current = versions.directory_in_use(), versions.version
            for url in await try_version(*current, list(failures), settings, sources):
                print_line(f"fails with {versions.version} too: {url}")
        raise ExtractorError(
            f"yt-dlp {version} is not used; {versions.version} stays in use. "
            "`--untried` uses it anyway."
        )
    if not urls:
        print_line(f"yt-dlp {version} starts; no canary was tested.")


def _print_results(
    version: str, urls: Sequence[str], failures: Mapping[str, Failure], print_line: PrintLine
) -> None:
    for url in urls:
        if url in failures:
            print_line(f"fails with {version}: {describe({url: failures[url]})}")
        else:
            print_line(f"works with {version}: {url}")


def _switched(versions: Versions, state: InUse, print_line: PrintLine) -> None:
    print_line(f"yt-dlp {versions.number(state.current)} is in use from the next job on.")
    if state.previous != state.current:
        print_line(f"The previous version is {versions.number(state.previous)}; {_UNDO}")


def _source(request: UpdateRequest) -> Sequence[str]:
    """Return uv's options that say where to install from."""
    options = ("--prerelease", "allow") if request.nightly else ()
    if request.source is None:
        return options
    if not request.source.exists():
        raise ExtractorError(f"{request.source} does not exist.")
    folder = request.source if request.source.is_dir() else request.source.parent
    return (*options, "--no-index", "--find-links", str(folder.absolute()))


async def _download(
    directory: Path, where: Sequence[str], request: UpdateRequest, settings: Settings
) -> importlib.metadata.Distribution:
    """Install yt-dlp alone into `directory`."""
    package = f"yt-dlp=={request.version}" if request.version else "yt-dlp"
    if request.source is not None and request.source.is_file():
        package = str(request.source.absolute())
    await _uv(directory, (*where, package), settings)
    for unused in ("bin", "share"):
        shutil.rmtree(directory / unused, ignore_errors=True)
    for found in importlib.metadata.distributions(name="yt-dlp", path=[str(directory)]):
        return found
    raise ExtractorError(f"{package} does not contain yt-dlp.")


async def _complete(
    directory: Path,
    where: Sequence[str],
    found: importlib.metadata.Distribution,
    settings: Settings,
    print_line: PrintLine,
) -> None:
    """Install its missing dependencies next to it."""
    for requirement in filter(_is_missing, map(Requirement, found.requires or ())):
        requirement.marker = None
        try:
            await _uv(directory, (*where, str(requirement)), settings)
        except ExtractorError as error:
            if requirement.name in _ALWAYS:
                raise
            print_line(f"{requirement} could not be installed, so yt-dlp runs without it.")
            logger.info(Event.EXTRACTOR_NOT_UPDATED, "%s", error)


def _is_missing(requirement: Requirement) -> bool:
    marker = requirement.marker
    if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in _EXTRAS):
        return False
    if requirement.name in _ALWAYS:
        return True
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        here = importlib.metadata.version(requirement.name)
        return not requirement.specifier.contains(here, prereleases=True)
    return True


async def _uv(directory: Path, arguments: Sequence[str], settings: Settings) -> None:
    """Run `uv pip install` into `directory`. Raises ExtractorError with its output."""
    environment = _environment(settings)
    # A user without a home directory has no cache, and it would hardly help.
    cache = () if "UV_CACHE_DIR" in environment else ("--no-cache",)
    process = await asyncio.create_subprocess_exec(
        *(_program(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"),
        *(*cache, "--python", sys.executable, "--target", str(directory), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    try:
        async with asyncio.timeout(_INSTALL_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise ExtractorError(
            f"uv did not finish within {_INSTALL_SECONDS:g} s. Try again."
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        message = output.decode(errors="replace").strip()
        raise ExtractorError(f"uv could not install {arguments[-1]}:\n{message}")


def _program() -> str:
    """Return the uv that is installed with Ingot, or else the one in PATH."""
    found = shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv")
    if found is None:
        raise ExtractorError("The program `uv` is missing. Install the package `uv` next to Ingot.")
    return found


def _environment(settings: Settings) -> dict[str, str]:
    """Return our environment, with the installation's egress proxy unless another proxy is set."""
    environment = {"UV_SYSTEM_CERTS": "true", "UV_COMPILE_BYTECODE": "true", **os.environ}
    if settings.egress_proxy and not any(name in environment for name in _PROXIES):
        environment |= {"HTTP_PROXY": settings.egress_proxy, "HTTPS_PROXY": settings.egress_proxy}
    return environment
