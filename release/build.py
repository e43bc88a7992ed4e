"""Makes the files of a release in dist/: the same bytes for the same commit.

python -m release.build [--image] [--directory DIR]
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from release.versions import ROOT, current, problems

GO_MODULE: Final = "github.com/ingot-media/ingot/clients/go"
CHART: Final = "deploy/helm/ingot"
# `helm package` leaves out what .helmignore names.
_NOT_IN_CHART: Final = ("ci/",)
SUMS: Final = "SHA256SUMS"
_FIRST_YEAR_OF_ZIP: Final = 315532800
_EXECUTABLE: Final = 0o100


def build(directory: Path, *, image: bool) -> None:
    """Make all files of the release in `directory`, which loses what it had."""
    if found := problems():
        sys.exit("\n".join(found))
    version = current()
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit_time())
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    build_distributions(directory)
    pack_npm_package(directory)
    pack_go_module(directory / f"ingot-go-{version}.zip", version)
    pack_chart(directory / f"ingot-{version}.tgz")
    run("make", "--silent", "sbom")
    shutil.copy(
        ROOT / ".cache/sbom/server.cdx.json", directory / f"ingot-server-{version}.cdx.json"
    )
    write_sums(directory)
    print((directory / SUMS).read_text(), end="")
    build_image(version, wanted=image)
    print(f"Tags: v{version}, and clients/go/v{version} for the Go module.")


def build_distributions(directory: Path) -> None:
    """Make the wheels and source distributions of ingot-client and ingot-server."""
    for folder in ("clients/python", "server"):
        run(
            *(sys.executable, "-m", "hatchling", "build"),
            *("--target", "sdist", "--target", "wheel", "--directory", str(directory)),
            cwd=ROOT / folder,
        )


def pack_npm_package(directory: Path) -> None:
    """Make the package @ingot/client, with the locked compiler."""
    clients = ROOT / "clients"
    installed, lock = clients / "node_modules/.package-lock.json", clients / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        run("npm", "ci", "--silent", cwd=clients)
    into = ("--pack-destination", str(directory))
    run("npm", "pack", "--silent", "--workspace", "typescript", *into, cwd=clients)


def pack_go_module(file: Path, version: str) -> None:
    """Make the zip of the Go module, as the module proxy serves it (go.dev/ref/mod#zip-files)."""
    folder = ROOT / "clients/go"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in tracked(folder):
            name = f"{GO_MODULE}@v{version}/{path.relative_to(folder)}"
            entry = zipfile.ZipInfo(name, time.gmtime(max(epoch(), _FIRST_YEAR_OF_ZIP))[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, path.read_bytes())


def pack_chart(file: Path) -> None:
    """Make the package of the chart, as `helm package` does but the same each time."""
    folder = ROOT / CHART
    with (
        file.open("wb") as stored,
        gzip.GzipFile("", "wb", fileobj=stored, mtime=epoch()) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as packed,
    ):
        for path in tracked(folder):
            name = str(path.relative_to(folder))
            if name.startswith(_NOT_IN_CHART):
                continue
            entry = packed.gettarinfo(path, f"{folder.name}/{name}")
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = epoch()
            entry.mode = 0o755 if entry.mode & _EXECUTABLE else 0o644
            with path.open("rb") as content:
                packed.addfile(entry, content)


def build_image(version: str, *, wanted: bool) -> None:
    """Build the image with buildah, or say how."""
    command = [
        *("buildah", "build", "--timestamp", str(epoch()), "--build-arg", f"VERSION={version}"),
        *("--build-arg", f"REVISION={output('git', 'rev-parse', 'HEAD')}"),
        *("--tag", f"ingot:{version}", "."),
    ]
    if wanted and shutil.which("buildah"):
        run(*command)
    else:
        why = "buildah is not here" if wanted else "make release IMAGE=yes builds it"
        print(f"The image was not built ({why}): {' '.join(command)}")


def write_sums(directory: Path) -> None:
    """Write SHA256SUMS, which `sha256sum --check` reads."""
    files = sorted(path for path in directory.iterdir() if path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (directory / SUMS).write_text("".join(lines))


def tracked(folder: Path) -> Iterable[Path]:
    """Return the files of the folder that git knows, sorted."""
    names = output("git", "ls-files", "-z", str(folder)).split("\0")
    return sorted(ROOT / name for name in names if name)


def epoch() -> int:
    """Return the time that all files in archives get."""
    return int(os.environ["SOURCE_DATE_EPOCH"])


def commit_time() -> str:
    """Return the time of the commit, in seconds since 1970."""
    return output("git", "log", "-1", "--format=%ct")


def run(*command: str, cwd: Path = ROOT) -> None:
    """Run a command; its output is shown if it fails."""
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{ended.stdout}{ended.stderr}")


def output(*command: str) -> str:
    """Return what a command prints."""
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def main(arguments: Sequence[str] | None = None) -> None:
    """Build as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m release.build")
    parser.add_argument("--image", action="store_true", help="also build the image, with buildah")
    parser.add_argument("--directory", type=Path, default=ROOT / "dist")
    options = parser.parse_args(arguments)
    build(options.directory.absolute(), image=options.image)


if __name__ == "__main__":
    main()
