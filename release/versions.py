"""The version of Ingot: written in pyproject.toml, and the same in every other place that has it.

python -m release.versions            prints it, and fails if another place has another one
python -m release.versions VERSION    writes it into every place
"""

from __future__ import annotations

import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class Place:
    """A file that has the version: where the only group of `pattern` matches."""

    path: str
    pattern: str
    parts: int = 3
    """How many parts of the version it has: 2 leave out the last one."""

    def wanted(self, version: str) -> str:
        """Return what of `version` this place has."""
        return ".".join(version.split(".")[: self.parts])

    def found(self) -> list[str]:
        """Return what stands in this place: one version, unless the file has been changed."""
        text = (ROOT / self.path).read_text()
        return [match[1] for match in re.finditer(self.pattern, text, re.MULTILINE)]

    def write(self, version: str) -> None:
        """Put `version` into this place."""

        def replaced(match: re.Match[str]) -> str:
            begin, end = match.start(1) - match.start(), match.end(1) - match.start()
            return match[0][:begin] + self.wanted(version) + match[0][end:]

        file = ROOT / self.path
        file.write_text(re.sub(self.pattern, replaced, file.read_text(), flags=re.MULTILINE))


_PROJECT: Final = r'^version = "(.*)"$'
_PACKAGE: Final = r'^  "version": "(.*)",$'
_LOCK: Final = "clients/package-lock.json"
PLACES: Final = (
    Place("pyproject.toml", _PROJECT),
    Place("clients/python/pyproject.toml", _PROJECT),
    Place("server/pyproject.toml", _PROJECT),
    Place("server/pyproject.toml", r'^    "ingot-client==(.*)",$'),
    Place("clients/typescript/package.json", _PACKAGE),
    Place("clients/dashboard/package.json", _PACKAGE),
    Place("clients/dashboard/package.json", r'"@ingot/client": "(.*)"'),
    Place(_LOCK, r'"@ingot/client": "(.*)"'),
    Place(_LOCK, r'"name": "@ingot/client",\n\s+"version": "(.*)"'),
    Place(_LOCK, r'"name": "@ingot/dashboard",\n\s+"version": "(.*)"'),
    Place("server/ingot_server/api/openapi.json", _PACKAGE),
    Place("deploy/helm/ingot/Chart.yaml", r"^version: (.*)$"),
    Place("deploy/helm/ingot/Chart.yaml", r'^appVersion: "(.*)"$'),
    Place("Dockerfile", r"^ARG VERSION=(.*)$"),
    # What Ingot calls itself in requests to sources.
    Place("server/ingot_server/config.py", r'^        "Ingot/(.*)",$', parts=2),
    Place("docs/settings.md", r"^\| `INGOT_USER_AGENT` \| `Ingot/(.*?)`", parts=2),
    Place("tests/integration/download/test_answers.py", r'== "Ingot/(.*)"$', parts=2),
    Place("docs/containers.md", r"^\| `VERSION`, `REVISION` \| `(.*?)`"),
)


def current() -> str:
    """Return the version in pyproject.toml, which all other places must have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def problems() -> list[str]:
    """Return which places have another version, or none."""
    version = current()
    return [
        f"{place.path} has {found or 'no version'} at {place.pattern!r}, and not {version}."
        for place in PLACES
        if (found := place.found()) != [place.wanted(version)]
    ]


def main(arguments: list[str]) -> None:
    """Write the version that is given, and check all places."""
    for version in arguments:
        if not re.fullmatch(r"\d+\.\d+\.\d+", version):
            sys.exit(f"{version!r} is not a version such as 0.2.0.")
        for place in PLACES:
            place.write(version)
    if found := problems():
        sys.exit("\n".join(found))
    print(current())


if __name__ == "__main__":
    main(sys.argv[1:])
