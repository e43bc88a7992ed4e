"""Rules that hold for the whole contract."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from ingot.v1 import (
    ingest_service_pb2,
    job_pb2,
    job_service_pb2,
    media_pb2,
    media_service_pb2,
    scope_pb2,
)
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot_server.api.status import check
from ingot_server.errors import Failure

FILES = (ingest_service_pb2, job_pb2, job_service_pb2, media_pb2, media_service_pb2)
SELECTION = media_pb2.Selection.DESCRIPTOR
# Each takes one stored media item.
NAMING = (
    *("GetMedia", "UpdateMedia", "DeleteMedia", "Download", "CreateDownloadUrl"),
    *("GetStoryboard", "Convert"),
)


def methods() -> Iterator[MethodDescriptor]:
    for path in Path(ingest_service_pb2.__file__).parent.glob("*_service_pb2.py"):
        file = import_module(f"ingot.v1.{path.stem}").DESCRIPTOR
        for service in file.services_by_name.values():
            yield from service.methods


def messages() -> Iterator[Descriptor]:
    for file in FILES:
        yield from file.DESCRIPTOR.message_types_by_name.values()


def rules(field: FieldDescriptor) -> bytes:
    """The serialized validation rules of a field."""
    return field.GetOptions().SerializeToString(deterministic=True)


def test_every_field_with_labels_has_the_same_rule() -> None:
    fields = [field for message in messages() for field in message.fields if field.name == "labels"]

    assert len(fields) >= 9
    assert len({rules(field) for field in fields}) == 1
    assert rules(fields[0])


@pytest.mark.parametrize(
    ("labels", "allowed"),
    [
        ({str(number): "" for number in range(64)}, True),
        ({str(number): "" for number in range(65)}, False),
        ({"a" * 63: "é" * 255}, True),
        ({"a" * 64: ""}, False),
        ({"a": "x" * 256}, False),
        ({"team/a.b_c-d": ""}, True),
        ({"": ""}, False),
        ({"Team": ""}, False),
        ({"a-": ""}, False),
    ],
)
def test_labels_are_within_their_rule(labels: dict[str, str], allowed: bool) -> None:
    request = IngestRequest(url="http://example.com/", labels=labels)
    if allowed:
        check(request)
    else:
        with pytest.raises(Failure):
            check(request)


def test_every_method_names_a_media_item_in_the_same_way() -> None:
    requests = {message.name: message for message in messages()}

    for method in NAMING:
        request = requests[f"{method}Request"]
        named = [field.name for field in request.oneofs_by_name["name"].fields]
        assert named == ["media_id", "url"], method
        assert request.fields_by_name["selection"].message_type is SELECTION, method
        for name in named:
            assert rules(request.fields_by_name[name]) == rules(
                requests["GetMediaRequest"].fields_by_name[name]
            ), method


def test_every_method_says_which_scope_its_callers_need() -> None:
    without = [
        method.full_name
        for method in methods()
        if not method.GetOptions().Extensions[scope_pb2.required_scope]
    ]

    assert len(list(methods())) >= 26
    assert not without
