"""What `import ingot` loads: the documented names, and nothing of the server."""

import json
import re
import subprocess
import sys
from importlib.metadata import requires

import pytest

import ingot

# The dependencies of ingot-client, and the modules that it uses of them.
DEPENDENCIES = {"googleapis-common-protos", "grpcio", "protobuf", "rich"}
USED = "import google.rpc.error_details_pb2, google.protobuf.json_format, grpc.aio, rich.progress"
# The packages of the client itself: `buf` has the validation rules that the contract imports.
OWN = {"ingot", "buf"}

EXPORTS = [
    "AddressForbidden",
    "ChecksumMismatch",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "IngestJob",
    "IngestOptions",
    "IngestRequest",
    "IngotError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobNotFound",
    "JobStage",
    "JobState",
    "Media",
    "MediaDoesNotExist",
    "MediaNotFound",
    "MediaRefused",
    "Recipe",
    "Selection",
    "ServiceFailed",
    "ServiceUnavailable",
    "SourceRefused",
    "SourceUnavailable",
    "UnsupportedUrl",
]


def loaded_by(statement: str) -> set[str]:
    """Return the top-level modules, without the standard library, that `statement` loads."""
    program = (
        "import sys, json; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    output = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True
    ).stdout
    return set(json.loads(output)) - sys.stdlib_module_names


def test_the_exports_are_these_and_exist() -> None:
    assert ingot.__all__ == EXPORTS
    assert all(hasattr(ingot, name) for name in EXPORTS)
    with pytest.raises(AttributeError, match="Klient"):
        ingot.Klient  # noqa: B018 - looking it up is what fails


def test_the_client_depends_on_these_and_loads_nothing_else() -> None:
    requirements = requires("ingot-client") or []
    loaded = loaded_by("from ingot import *; import ingot.cli, ingot.commands, ingot.progress")

    assert {re.split(r"[^\w.-]", line)[0] for line in requirements} == DEPENDENCIES
    assert loaded - loaded_by(USED) == OWN


def test_messages_load_without_grpc() -> None:
    loaded = loaded_by("import ingot; from ingot.v1 import job_pb2, ingest_service_pb2")

    assert not loaded & {"grpc", "rich"}


def test_help_loads_neither_grpc_nor_rich() -> None:
    loaded = loaded_by(
        "import contextlib, io, ingot.cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    ingot.cli.main(['ingest', '--help'])"
    )

    assert loaded <= OWN


def test_json_needs_no_rich() -> None:
    assert "rich" not in loaded_by("import ingot.commands")
