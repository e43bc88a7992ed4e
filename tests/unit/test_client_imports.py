"""What `import ingot` loads: the documented names, and nothing of the server."""

import json
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import ingot

ROOT = Path(__file__).parents[2]

# The dependencies of ingot-client, and the modules that it uses of them.
DEPENDENCIES = {"googleapis-common-protos", "grpcio", "protobuf", "rich", "shtab"}
USED = "import google.rpc.error_details_pb2, google.protobuf.json_format, grpc.aio, rich.progress"
OWN = {"ingot"}

EXPORTS = [
    "AccessDenied",
    "AddressForbidden",
    "ChecksumMismatch",
    "Client",
    "Conflict",
    "DeadlineExceeded",
    "FeedNotFound",
    "IngestJob",
    "IngestOptions",
    "IngestRequest",
    "IngotError",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobKind",
    "JobNotFound",
    "JobPriority",
    "JobStage",
    "JobState",
    "Media",
    "MediaDoesNotExist",
    "MediaNotFound",
    "MediaRefused",
    "MediaView",
    "Recipe",
    "RemovedJob",
    "ResolveResponse",
    "Selection",
    "ServiceFailed",
    "ServiceUnavailable",
    "SnapshotEnd",
    "SourceRefused",
    "SourceUnavailable",
    "Subscription",
    "SubscriptionNotFound",
    "SyncClient",
    "SyncIngestJob",
    "UnsupportedUrl",
    "name_of",
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
    requirements = [line for line in requires("ingot-client") or [] if "extra ==" not in line]
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


def test_the_completion_loads_only_what_writes_its_script() -> None:
    loaded = loaded_by(
        "import contextlib, io, ingot.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    ingot.cli.main(['completion', 'bash'])"
    )

    assert loaded <= {*OWN, "shtab"}


def test_json_needs_no_rich() -> None:
    assert "rich" not in loaded_by("import ingot.commands")


OTHER_SERVICE = """
syntax = "proto3";
package other.v1;
import "buf/validate/validate.proto";
message Other { string name = 1 [(buf.validate.field).string.min_len = 1]; }
"""

BOTH_ARE_CHECKED = """
from protovalidate import Validator
found = [Validator().collect_violations(kind()) for kind in (IngestRequest, Other)]
assert [each.proto.rule_id for [each] in found] == ["string.min_len"] * 2
assert IngestRequest.DESCRIPTOR.fields_by_name["url"].GetOptions().SerializeToString()
"""


@pytest.mark.parametrize("is_first", [True, False])
def test_stubs_of_a_service_with_its_own_copy_of_the_rules_load_too(
    tmp_path: Path, is_first: bool
) -> None:
    (tmp_path / "other/v1").mkdir(parents=True)
    (tmp_path / "other/v1/other.proto").write_text(OTHER_SERVICE)
    (tmp_path / "buf/validate").mkdir(parents=True)
    rules = (ROOT / "proto/buf/validate/validate.proto").read_text()
    # A different version: two equal ones never were a problem.
    (tmp_path / "buf/validate/validate.proto").write_text(f"{rules}\nmessage Newer {{}}\n")
    files = ["other/v1/other.proto", "buf/validate/validate.proto"]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=."]
    subprocess.run([*protoc, *files], check=True, cwd=tmp_path)

    imports = [
        "from other.v1.other_pb2 import Other",
        "from ingot.v1.ingest_service_pb2 import IngestRequest",
    ]
    program = "\n".join([*imports[:: 1 if is_first else -1], BOTH_ARE_CHECKED])
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
