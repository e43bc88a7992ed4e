"""The names of enum values, as programs print them."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import EnumDescriptor, FileDescriptor
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from ingot import Job, JobKind, JobState, Recipe, name_of
from ingot.v1 import job_pb2, media_pb2, reason_pb2, recipe_pb2, source_service_pb2

FILES: list[FileDescriptor] = [
    module.DESCRIPTOR for module in (job_pb2, media_pb2, reason_pb2, recipe_pb2, source_service_pb2)
]
ENUMS = [
    enum
    for file in FILES
    for enum in (
        *file.enum_types_by_name.values(),
        *(enum for message in file.message_types_by_name.values() for enum in message.enum_types),
    )
]


def test_an_enum_prints_its_name() -> None:
    job = Job(state=JobState.JOB_STATE_SUCCEEDED, kind=JobKind.JOB_KIND_PLAYLIST)

    assert name_of(JobState, job.state) == "SUCCEEDED"
    assert name_of(JobKind, job.kind) == "PLAYLIST"
    assert name_of(Recipe.Image.Encoding, Recipe.Image.ENCODING_PNG) == "PNG"


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: str(enum.full_name))
def test_no_name_has_the_prefix_of_its_enum(enum: EnumDescriptor) -> None:
    wrapper = EnumTypeWrapper(enum)

    assert name_of(wrapper, wrapper.values()[0]) == "UNSPECIFIED"


def test_a_value_of_a_newer_server_prints_its_number() -> None:
    field = Job.DESCRIPTOR.fields_by_name["state"]
    newer = Job.FromString(bytes([field.number << 3, 99]))

    assert name_of(JobState, newer.state) == "99"
