"""Installs what `make release` made into clean environments, and uses it there.

python -m release.verify [DIR]

The wheels run a whole Ingot in an environment of their own. Its command stores a file, and a
program of Node and one of Go, each with the client of the release, read that media item.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import kubernetes_validate

from release.build import GO_MODULE, SUMS, build_distributions, commit_time, output, run
from release.versions import ROOT, current

NODE_PROGRAM: Final = """\
import { Client } from "@ingot/client";

const media = await new Client(process.argv[2]).media(process.argv[3]);
console.log(media.id);
"""
GO_PROGRAM: Final = """\
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/ingot-media/ingot/clients/go/ingot"
)

func main() {
	client, err := ingot.NewClient(os.Args[1])
	if err != nil {
		panic(err)
	}
	defer client.Close()
	media, err := client.Media(context.Background(), os.Args[2])
	if err != nil {
		panic(err)
	}
	fmt.Println(media.GetId())
}
"""


def verify(directory: Path, work: Path) -> None:
    """Use every file of the release in `directory`."""
    version = current()
    run("sha256sum", "--check", "--strict", "--quiet", SUMS, cwd=directory)
    check_reproduction(directory, work / "again")
    programs = install_wheels(directory, work / "venv", version)
    said = {name: output(str(programs / name), "--version") for name in ("ingot", "ingot-server")}
    if any(version not in text for text in said.values()):
        sys.exit(f"The wheels have another version than {version}: {said}")
    with running_ingot(programs / "ingot-server", work / "data") as (grpc, http):
        clip = make_clip(programs, work / "clip.mp4")
        command = [str(programs / "ingot"), "--server", grpc, "--json"]
        stored = json.loads(output(*command, "upload", str(clip)).splitlines()[-1])
        media_id = stored["media"]["id"]
        for language, read in {
            "Node": read_with_node(directory, work / "node", version, http, media_id),
            "Go": read_with_go(directory, work / "go", version, grpc, media_id),
        }.items():
            if read != media_id:
                sys.exit(f"{language} read {read!r}, and not {media_id}.")
    check_chart(directory / f"ingot-{version}.tgz")
    print(f"The files of {version} work in clean environments.")


def check_reproduction(directory: Path, again: Path) -> None:
    """Build the distributions again, and the wheels from their sources: the bytes are equal."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", commit_time())
    again.mkdir()
    build_distributions(again)
    for made in again.iterdir():
        if made.read_bytes() != (directory / made.name).read_bytes():
            sys.exit(f"{made.name} has other bytes when it is built again.")
    for sources in again.glob("*.tar.gz"):
        with tarfile.open(sources) as packed:
            packed.extractall(again, filter="data")
        folder = again / sources.name.removesuffix(".tar.gz")
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", cwd=folder)
        [wheel] = (folder / "dist").iterdir()
        if wheel.read_bytes() != (directory / wheel.name).read_bytes():
            sys.exit(f"{wheel.name} has other bytes when it is built from {sources.name}.")


def install_wheels(directory: Path, environment: Path, version: str) -> Path:
    """Make an environment with the locked packages and the wheels; return its programs."""
    wheels = [
        str(directory / f"ingot_{name}-{version}-py3-none-any.whl") for name in ("client", "server")
    ]
    into = ("--quiet", "--python", str(environment / "bin" / "python"))
    run("uv", "--quiet", "venv", "--python", sys.executable, str(environment))
    run("uv", "pip", "install", *into, "--require-hashes", "-r", "requirements/server.txt")
    run("uv", "pip", "install", *into, "--no-deps", *wheels)
    run("uv", "pip", "check", *into)
    return environment / "bin"


@contextmanager
def running_ingot(program: Path, data: Path) -> Iterator[tuple[str, str]]:
    """Run `up`; yield its addresses for gRPC, and for HTTP as a URL."""
    process = subprocess.Popen(
        [
            *(str(program), "up", "--data-dir", str(data)),
            *("--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"),
        ],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("INGOT_")},
            "INGOT_SCRATCH_DIR": str(data / "scratch"),
        },
        cwd=data.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        addresses: dict[str, str] = {}
        for line in process.stdout:
            if match := re.match(r"(gRPC|HTTP)\s+(\S+)", line):
                addresses[match[1]] = match[2]
            if len(addresses) == 2:
                break
        else:
            sys.exit("`ingot-server up` of the wheels did not start.")
        yield addresses["gRPC"], f"http://{addresses['HTTP']}"
    finally:
        process.terminate()
        process.wait()


def make_clip(programs: Path, file: Path) -> Path:
    """Make a short MP4 with the ffmpeg that the wheels depend on."""
    find = "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())"
    ffmpeg = output(str(programs / "python"), "-c", find)
    source = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration=2")
    run(ffmpeg, "-v", "error", *source, "-c:v", "libx264", "-pix_fmt", "yuv420p", str(file))
    return file


def read_with_node(directory: Path, folder: Path, version: str, server: str, media_id: str) -> str:
    """Return the id of the media item, as a program with the npm package reads it."""
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
    (folder / "read.js").write_text(NODE_PROGRAM)
    package = directory / f"ingot-client-{version}.tgz"
    run("npm", "install", "--silent", "--prefer-offline", str(package), cwd=folder)
    return output("node", str(folder / "read.js"), server, media_id)


def read_with_go(directory: Path, folder: Path, version: str, server: str, media_id: str) -> str:
    """Return the id of the media item, as a program with the Go module reads it."""
    folder.mkdir()
    with zipfile.ZipFile(directory / f"ingot-go-{version}.zip") as packed:
        packed.extractall(folder / "module")
    module = folder / "module" / f"{GO_MODULE}@v{version}"
    needed = (module / "go.mod").read_text().partition("\n")[2]
    (folder / "go.mod").write_text(
        f"module read\n{needed}\nrequire {GO_MODULE} v{version}\nreplace {GO_MODULE} => {module}\n"
    )
    shutil.copy(module / "go.sum", folder)
    (folder / "main.go").write_text(GO_PROGRAM)
    run("go", "build", "-mod=mod", "-o", "read", ".", cwd=folder)
    return output(str(folder / "read"), server, media_id)


def check_chart(package: Path) -> None:
    """Render the packaged chart, if helm is here."""
    helm = shutil.which("helm", path=f"{ROOT / '.cache/bin'}{os.pathsep}{os.environ['PATH']}")
    if helm is None:
        print("helm is not here, so the package of the chart was not rendered.")
        return
    values = ROOT / "deploy/helm/ingot/ci/values.yaml"
    # helm as `go install` makes it takes an old version of Kubernetes for the present one.
    version = ("--kube-version", kubernetes_validate.latest_version())
    run(helm, "template", "ingot", str(package), "--values", str(values), *version)


def main(arguments: list[str]) -> None:
    """Verify the files in the directory that is given, or in dist/."""
    directory = Path(arguments[0]) if arguments else ROOT / "dist"
    # A socket's path may be no longer than 104 bytes.
    with tempfile.TemporaryDirectory(prefix="ingot-") as work:
        verify(directory.absolute(), Path(work))


if __name__ == "__main__":
    main(sys.argv[1:])
