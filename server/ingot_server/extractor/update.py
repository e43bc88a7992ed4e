"""`ingot-server extractor`: installs versions of yt-dlp, tries them, and puts them to use.

    uv into .new-* -> the canaries, with that very directory -> renamed -> in use

uv resolves and downloads, by the index that its own settings name. Only wheels are taken, so no
code of a package runs before the trial. What is installed is yt-dlp, the yt-dlp-ejs that it pins,
and what else it can use and Ingot has in no version that it accepts. It starts without any of
these, so one that cannot be had is no failure: the canaries tell whether it matters.

Every function says what it did, line by line, and raises ExtractorError when it could not, or
Failure when it cannot even be tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
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
from ingot_server.extractor.canary import Sources, canaries, check, describe, try_version
from ingot_server.extractor.versions import ExtractorError, InUse, Versions, order

logger = logging.getLogger(__name__)

Say = Callable[[str], None]

_INSTALL_SECONDS: Final = 600.0
_EXTRAS: Final = ("", "default", "curl-cffi")
# Pinned exactly, so it belongs to the version even where the one installed here would do today.
_ALWAYS: Final = frozenset({"yt-dlp-ejs"})
_PROXIES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy")
_UNDO: Final = "`ingot-server extractor rollback` undoes it."


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to install."""

    version: str = ""
    """Empty: the newest."""
    nightly: bool = False
    """Whether the newest may be one of yt-dlp's nightly builds, which registries call .dev0."""
    source: Path | None = None
    """A wheel, or a directory of wheels, in the place of the index."""
    tried: bool = True
    """Whether the canaries must work."""


async def update(
    versions: Versions, wanted: Wanted, settings: Settings, sources: Sources, say: Say
) -> None:
    """Installs a version, tries it, and puts it to use. A failure leaves all as it was."""
    with versions.locked():
        with versions.building() as place:
            where = _source(wanted)
            found = await _download(place, where, wanted, settings)
            version, running = found.version, versions.version
            if version == running:
                say(f"yt-dlp {version} is in use already.")
                return
            if not (wanted.version or wanted.source) and not _is_progress(versions, version, say):
                return
            say(f"yt-dlp {version} was downloaded; {running} is in use.")
            await _complete(place, where, found, settings, say)
            await _try(versions, version, place, wanted, settings, sources, say)
            if version != versions.released:
                versions.add(version, place)
        _switched(versions, versions.switch(version), say)
        versions.prune()


async def use(versions: Versions, version: str, settings: Settings, say: Say) -> None:
    """Puts an installed version to use, or `released`, if it starts; no canary is asked."""
    with versions.locked():
        if version in {one.version for one in versions.all()}:
            place = None if version == versions.released else versions.directory / version
            await try_version(place, version, (), settings, {})
        _switched(versions, versions.switch(version), say)


def rollback(versions: Versions, say: Say) -> None:
    """Puts the version to use that was before."""
    with versions.locked():
        _switched(versions, versions.rollback(), say)


def remove(versions: Versions, version: str, say: Say) -> None:
    """Removes a version that is not in use."""
    with versions.locked():
        versions.remove(version)
    say(f"yt-dlp {version} was removed.")


def show(versions: Versions, say: Say) -> None:
    """One line for each version."""
    say(f"{'VERSION':<26} {'INSTALLED':<18} STATE")
    for one in versions.all():
        installed = f"{one.install_time:%Y-%m-%d %H:%M}" if one.install_time else "with Ingot"
        state = "in use" if one.in_use else "previous" if one.previous else ""
        say(f"{one.version:<26} {installed:<18} {state}".rstrip())


async def check_now(versions: Versions, settings: Settings, sources: Sources, say: Say) -> None:
    """Tries the canaries with the version in use, and goes back where the previous is better."""
    urls = canaries(settings)
    if not urls:
        raise ExtractorError("INGOT_EXTRACTOR_CANARIES names no URL to try.")
    with versions.checking(timedelta(0)):
        checked = await check(versions, settings, sources)
    _tell(checked.version, urls, checked.failures, say)
    if checked.back_to:
        say(f"yt-dlp {checked.back_to} brings in what {checked.version} does not: it is in use.")
    elif checked.failures:
        state = versions.in_use()
        other = versions.number(state.previous)
        raise ExtractorError(
            f"There is no version to go back to from {checked.version}."
            if state.previous == state.current
            else f"{other} is no better: it is the site, or this address. Nothing was changed."
        )


def _is_progress(versions: Versions, version: str, say: Say) -> bool:
    """Whether the newest version there is should be put to use, though nobody named it."""
    running = versions.version
    if order(version) < order(running):
        say(f"yt-dlp {running} is in use; the newest one there is {version}.")
    elif version == versions.number(versions.in_use().previous):
        say(
            f"yt-dlp {version} was left for {running}. "
            f"`ingot-server extractor update {version}` puts it to use again."
        )
    else:
        return True
    return False


async def _try(
    versions: Versions,
    version: str,
    place: Path,
    wanted: Wanted,
    settings: Settings,
    sources: Sources,
    say: Say,
) -> None:
    urls = canaries(settings) if wanted.tried else ()
    trial = None if version == versions.released else place
    try:
        failures = await try_version(trial, version, urls, settings, sources)
    except Failure as failure:
        raise ExtractorError(f"{failure.message} {versions.version} stays in use.") from failure
    _tell(version, urls, failures, say)
    if failures:
        with contextlib.suppress(Failure):
            current = versions.place(), versions.version
            for url in await try_version(*current, list(failures), settings, sources):
                say(f"fails with {versions.version} too: {url}")
        raise ExtractorError(
            f"yt-dlp {version} is not put to use; {versions.version} stays. "
            "`--untried` puts it to use all the same."
        )
    if not urls:
        say(f"yt-dlp {version} starts; no canary was asked.")


def _tell(version: str, urls: Sequence[str], failures: Mapping[str, Failure], say: Say) -> None:
    for url in urls:
        if url in failures:
            say(f"fails with {version}: {describe({url: failures[url]})}")
        else:
            say(f"works with {version}: {url}")


def _switched(versions: Versions, state: InUse, say: Say) -> None:
    say(f"yt-dlp {versions.number(state.current)} is in use from the next job on.")
    if state.previous != state.current:
        say(f"Before it was {versions.number(state.previous)}; {_UNDO}")


def _source(wanted: Wanted) -> Sequence[str]:
    """Where uv looks, as its options."""
    options = ("--prerelease", "allow") if wanted.nightly else ()
    if wanted.source is None:
        return options
    if not wanted.source.exists():
        raise ExtractorError(f"{wanted.source} is not there.")
    folder = wanted.source if wanted.source.is_dir() else wanted.source.parent
    return (*options, "--no-index", "--find-links", str(folder.absolute()))


async def _download(
    place: Path, where: Sequence[str], wanted: Wanted, settings: Settings
) -> importlib.metadata.Distribution:
    """Puts yt-dlp alone into `place`."""
    package = f"yt-dlp=={wanted.version}" if wanted.version else "yt-dlp"
    if wanted.source is not None and wanted.source.is_file():
        package = str(wanted.source.absolute())
    await _uv(place, (*where, package), settings)
    for unused in ("bin", "share"):
        shutil.rmtree(place / unused, ignore_errors=True)
    for found in importlib.metadata.distributions(name="yt-dlp", path=[str(place)]):
        return found
    raise ExtractorError(f"{package} is no yt-dlp.")


async def _complete(
    place: Path,
    where: Sequence[str],
    found: importlib.metadata.Distribution,
    settings: Settings,
    say: Say,
) -> None:
    """Puts beside it what it needs."""
    for requirement in filter(_is_missing, map(Requirement, found.requires or ())):
        requirement.marker = None
        try:
            await _uv(place, (*where, str(requirement)), settings)
        except ExtractorError as error:
            if requirement.name in _ALWAYS:
                raise
            say(f"It goes without {requirement}, which cannot be had.")
            logger.info("%s", error)


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


async def _uv(place: Path, arguments: Sequence[str], settings: Settings) -> None:
    """Runs `uv pip install` into `place`. Raises ExtractorError with what it says."""
    environment = _environment(settings)
    # A user without a home has no cache, and hardly anything would be found in it.
    cache = () if "UV_CACHE_DIR" in environment else ("--no-cache",)
    process = await asyncio.create_subprocess_exec(
        *(_program(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"),
        *(
            *cache,
            "--compile-bytecode",
            "--python",
            sys.executable,
            "--target",
            str(place),
            *arguments,
        ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    try:
        async with asyncio.timeout(_INSTALL_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError as error:
        raise ExtractorError(f"uv has not ended after {_INSTALL_SECONDS:g} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = output.decode(errors="replace").strip()
        raise ExtractorError(f"uv could not install {arguments[-1]}:\n{said}")


def _program() -> str:
    """The uv that is installed with Ingot, or else one in the PATH."""
    found = shutil.which("uv", path=sysconfig.get_path("scripts")) or shutil.which("uv")
    if found is None:
        raise ExtractorError("The program `uv` is missing; install the package `uv` beside Ingot.")
    return found


def _environment(settings: Settings) -> dict[str, str]:
    """Ours, with the way out that the installation has unless another is set."""
    environment = {"UV_SYSTEM_CERTS": "true", **os.environ}
    if settings.egress_proxy and not any(name in environment for name in _PROXIES):
        environment |= {"HTTP_PROXY": settings.egress_proxy, "HTTPS_PROXY": settings.egress_proxy}
    return environment
