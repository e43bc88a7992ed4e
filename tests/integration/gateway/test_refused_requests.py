"""Nothing in a request over HTTP is ignored, and every refusal says why and what to do."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from ingot.v1 import (
    ingest_service_pb2,
    job_service_pb2,
    media_service_pb2,
    source_service_pb2,
    system_service_pb2,
    webhook_service_pb2,
)
from ingot.v1.media_pb2 import Media
from ingot_server.api.status import check, enum_values
from ingot_server.errors import Failure
from tests.integration.gateway.running_gateway import (
    CONNECT_JSON,
    END_OF_CONNECT,
    END_OF_GRPC_WEB,
    GET_JOB,
    GET_MEDIA,
    GRPC_WEB,
    INGEST,
    URL,
    WATCH_JOB,
    Api,
    frame,
    framed,
    grpc_web_reason,
    reason,
    slowly,
    trailers,
)

pytestmark = pytest.mark.any_stores

LIST_JOBS = "/ingot.v1.JobService/ListJobs"
UPLOAD = "/ingot.v1.IngestService/Upload"
JSON = {"Content-Type": "application/json"}
PROTO = {"Content-Type": "application/proto"}

# Tables, not parameters: a server for each row would take a minute.
# The body of a call, the field that is refused, and words of its description.
FIELDS: list[tuple[str, Any, str, tuple[str, ...]]] = [
    (
        INGEST,
        {"url": URL, "validate_Only": True},
        "validate_Only",
        ("not a field", "validate_only"),
    ),
    (INGEST, {"url": URL, "zzz": 1}, "zzz", ("IngestRequest has url, selection",)),
    (INGEST, {"uri": URL}, "uri", ("not a field", "url")),
    (
        INGEST,
        {"url": URL, "selection": {"mode": "AUDIO_ONLY"}},
        "selection.mode",
        ("MODE_BEST or MODE_AUDIO_ONLY", 'not "AUDIO_ONLY"'),
    ),
    (INGEST, {"url": URL, "selection": {"mode": 7}}, "selection.mode", ("MODE_BEST or", "not 7")),
    (INGEST, {"url": URL, "selection": {"mode": True}}, "selection.mode", ("MODE_BEST or",)),
    (INGEST, {"url": URL, "selection": []}, "selection", ("JSON object",)),
    (INGEST, {"url": URL, "selection": ""}, "selection", ("JSON object",)),
    (INGEST, {"url": URL, "selection": {"modus": 1}}, "selection.modus", ("mode",)),
    (INGEST, {"url": URL, "priority": "HIGH"}, "priority", ("PRIORITY_LOW", "PRIORITY_HIGH")),
    (INGEST, {"url": URL, "labels": {"a": 1}}, "labels['a']", ("must be text", "not 1")),
    (INGEST, {"url": URL, "labels": ["a"]}, "labels", ("JSON object",)),
    (INGEST, {"url": URL, "recipes": {}}, "recipes", ("a list",)),
    (INGEST, {"url": URL, "recipes": [[]]}, "recipes[0]", ("JSON object",)),
    (INGEST, {"url": URL, "recipes": [None]}, "recipes[0]", ("not be null",)),
    (INGEST, {"url": URL, "validateOnly": "yes"}, "validate_only", ("true or false", 'not "yes"')),
    (INGEST, {"url": URL, "maxAge": 90}, "max_age", ('such as "90s"', "not 90")),
    (INGEST, {"url": 7}, "url", ("must be text",)),
    (INGEST, {"url": ["no", "text"]}, "url", ("not a list",)),
    (INGEST, {"url": URL, "requestId": "a", "request_id": "b"}, "request_id", ("given twice",)),
    (GET_MEDIA, {"url": URL, "mediaId": "a"}, "media_id", ("together with url",)),
    (LIST_JOBS, {"states": ["RUNNING"]}, "states[0]", ("JOB_STATE_RUNNING", 'not "RUNNING"')),
    (LIST_JOBS, {"states": "JOB_STATE_RUNNING"}, "states", ("a list",)),
    (LIST_JOBS, {"pageSize": "ten"}, "page_size", ("whole number", 'not "ten"')),
    (LIST_JOBS, {"pageSize": 1.5}, "page_size", ("whole number",)),
    (LIST_JOBS, {"pageSize": 1 << 40}, "page_size", ("in its range",)),
    (LIST_JOBS, [], "request", ("JSON object",)),
    (LIST_JOBS, None, "request", ("JSON object",)),
    (LIST_JOBS, "states", "request", ("JSON object",)),
]


async def test_a_field_that_is_not_understood_is_refused_by_name(api: Api) -> None:
    for path, body, name, words in FIELDS:
        async with api.http.post(path, data=json.dumps(body), headers=JSON) as response:
            error = await response.json()
        assert (response.status, error["code"]) == (400, "invalid_argument")
        assert reason(error["details"]) == "INVALID_REQUEST"
        (request,) = (each for each in error["details"] if each["type"] == "google.rpc.BadRequest")
        (violation,) = request["debug"]["fieldViolations"]
        assert violation["field"] == name
        for each in words:
            assert each in violation["description"]
        assert error["message"] == f"The request is invalid: {name} {violation['description']}."


async def test_a_request_is_refused_in_every_form_that_carries_json(api: Api) -> None:
    body = {"jobId": "a", "afterRevison": "3"}
    text = json.dumps(body)
    async with api.http.get(GET_JOB, params={"encoding": "json", "message": text}) as response:
        assert reason((await response.json())["details"]) == "INVALID_REQUEST"
    async with api.http.post(
        WATCH_JOB, data=framed(text.encode()), headers=CONNECT_JSON
    ) as response:
        _, end = await frame(response)
        assert "afterRevison is not a field" in json.loads(end)["error"]["message"]
    web = {**GRPC_WEB, "Content-Type": "application/grpc-web+json"}
    async with api.http.post(GET_JOB, data=framed(text.encode()), headers=web) as response:
        _, block = await frame(response)
        assert grpc_web_reason(trailers(block)) == "INVALID_REQUEST"


async def test_a_request_may_name_its_fields_as_the_contract_or_in_camel_case(api: Api) -> None:
    for body in (
        {"url": URL, "validateOnly": True, "selection": {"mode": "MODE_AUDIO_ONLY"}, "labels": {}},
        {"url": URL, "validate_only": True, "selection": {"mode": 2}, "max_age": "90s"},
        {"url": URL, "validateOnly": True, "selection": None, "recipes": None},
    ):
        async with api.http.post(INGEST, json=body) as response:
            assert response.status == 200, await response.text()
            assert "id" not in (await response.json())["job"]


@dataclass
class Refused:
    """A request that is not a proper call, and how it is refused."""

    path: str
    status: int
    code: str
    reason: str
    words: str
    method: str = "POST"
    body: bytes = b"{}"
    headers: Mapping[str, str] = dataclasses.field(default_factory=lambda: JSON)
    query: Mapping[str, str] = dataclasses.field(default_factory=dict)


READ = {"encoding": "json", "message": '{"jobId":"a"}'}
INVALID = (400, "invalid_argument", "INVALID_REQUEST")
UNSUPPORTED = (501, "unimplemented", "UNSUPPORTED_CALL")
TYPE = (415, "unimplemented", "UNSUPPORTED_CALL")
VERB = (405, "unimplemented", "UNSUPPORTED_CALL")
PATH = (404, "unimplemented", "UNSUPPORTED_CALL")
TOO_LARGE = (429, "resource_exhausted", "REQUEST_TOO_LARGE")

REFUSED = [
    Refused("/ingot.v1.JobService/GetJbo", *PATH, "/ingot.v1.JobService/GetJob"),
    Refused("/ingot.v1.jobservice/getjob", *PATH, "capital letters"),
    Refused("/nothing", *PATH, "docs/http.md", method="GET"),
    Refused(GET_JOB, *VERB, "GetJob is called by GET or POST", method="PUT"),
    Refused(INGEST, *VERB, "Ingest is called by POST", method="GET"),
    Refused(WATCH_JOB, *VERB, "WatchJob is called by POST", method="GET", query=READ),
    Refused(GET_JOB, *TYPE, "Content-Type: application/json", headers={"Content-Type": ""}),
    Refused(GET_JOB, *TYPE, "application/json", headers={"Content-Type": "text/plain"}),
    Refused(GET_JOB, *TYPE, "application/json", headers=CONNECT_JSON),
    Refused(GET_JOB, *TYPE, "port for gRPC", headers={"Content-Type": "application/grpc"}),
    Refused(WATCH_JOB, *TYPE, "application/connect+json"),
    Refused(GET_JOB, *INVALID, "body is empty", body=b""),
    Refused(GET_JOB, *INVALID, "line 1 column 2", body=b"{"),
    Refused(GET_JOB, *INVALID, "nested too deeply", body=b"[" * 100_000),
    Refused(GET_JOB, *INVALID, "not UTF-8", body=b"\xff"),
    Refused(GET_JOB, *INVALID, "'jobId' appears twice", body=b'{"jobId":"a","jobId":"b"}'),
    Refused(GET_JOB, *INVALID, "not a character", body=b'{"jobId":"\\ud800"}'),
    Refused(GET_JOB, *INVALID, "is not a character", body=b'{"\\ud800":1}'),
    Refused(GET_JOB, *INVALID, "not a ingot.v1.GetJobRequest", body=b"\xff", headers=PROTO),
    Refused(GET_JOB, *INVALID, "such as 5000", headers={**JSON, "Connect-Timeout-Ms": "5s"}),
    Refused(
        GET_JOB, *INVALID, "at most 10 digits", headers={**JSON, "Connect-Timeout-Ms": "1" * 11}
    ),
    Refused(GET_JOB, *INVALID, "5000", headers={**JSON, "Connect-Timeout-Ms": ""}),
    Refused(GET_JOB, *INVALID, "must be 1", headers={**JSON, "Connect-Protocol-Version": "2"}),
    Refused(
        GET_JOB,
        *UNSUPPORTED,
        "without content-encoding",
        headers={**JSON, "Content-Encoding": "a"},
    ),
    Refused(GET_JOB, *INVALID, "message=", method="GET", query={"encoding": "json"}),
    Refused(GET_JOB, *INVALID, "encoding=json", method="GET", query={"message": "{}"}),
    Refused(GET_JOB, *INVALID, "'jobId'", method="GET", query={**READ, "jobId": "a"}),
    Refused(GET_JOB, *INVALID, "base64", method="GET", query={**READ, "base64": "yes"}),
    Refused(
        GET_JOB,
        *INVALID,
        "base64",
        method="GET",
        query={"encoding": "proto", "message": "a", "base64": "1"},
    ),
    Refused(
        GET_JOB, *UNSUPPORTED, "compression", method="GET", query={**READ, "compression": "gzip"}
    ),
    Refused(INGEST, *INVALID, "in the body", query={"validate_only": "true"}),
    Refused(INGEST, *TOO_LARGE, "4 MiB", body=b'{"url":"' + b"x" * (4 << 20) + b'"}'),
]


async def test_every_refusal_has_a_reason_and_says_what_to_do(api: Api) -> None:
    for case in REFUSED:
        data = None if case.method == "GET" else io.BytesIO(case.body)
        async with api.http.request(
            case.method, case.path, data=data, headers=case.headers, params=case.query
        ) as response:
            assert response.content_type == "application/json"
            error = await response.json()
        assert (response.status, error["code"]) == (case.status, case.code)
        assert reason(error["details"]) == case.reason
        assert case.words in error["message"]
        if case.status == 405:
            assert "POST" in response.headers["Allow"]
        if case.status == 415:
            assert "json" in response.headers["Accept-Post"]


STREAMS: list[tuple[str, bytes, dict[str, str], str, str]] = [
    (WATCH_JOB, framed(b"{}"), {"Connect-Timeout-Ms": "x"}, "INVALID_REQUEST", "5000"),
    (WATCH_JOB, framed(b"{}"), {"Connect-Content-Encoding": "br"}, "UNSUPPORTED_CALL", "without"),
    (WATCH_JOB, framed(b"{}")[:-1], {}, "INVALID_REQUEST", "docs/http.md"),
    (WATCH_JOB, b'{"jobId":"a"}', {}, "INVALID_REQUEST", "docs/http.md"),
    (WATCH_JOB, b"", {}, "INVALID_REQUEST", "docs/http.md"),
    (WATCH_JOB, framed(b"{}") * 2, {}, "INVALID_REQUEST", "docs/http.md"),
    (WATCH_JOB, b"\1" + framed(b"{}")[1:], {}, "INVALID_REQUEST", "docs/http.md"),
    (WATCH_JOB, b"\0\x7f\xff\xff\xff", {}, "REQUEST_TOO_LARGE", "4 MiB"),
    (UPLOAD, framed(b'{"chunks":{}}'), {}, "INVALID_REQUEST", "one most like it is chunk"),
]


async def test_a_refused_stream_ends_with_a_reason(api: Api) -> None:
    for path, body, more, expected, words in STREAMS:
        headers = {**CONNECT_JSON, **more}
        async with api.http.post(path, data=body, headers=headers) as response:
            assert response.status == 200
            flags, end = await frame(response)
            error = json.loads(end)["error"]
        assert flags == END_OF_CONNECT
        assert reason(error["details"]) == expected
        assert words in error["message"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"Grpc-Timeout": "5"}, "INVALID_REQUEST"),
        ({"Grpc-Timeout": "5s"}, "INVALID_REQUEST"),
        ({"Grpc-Encoding": "gzip"}, "UNSUPPORTED_CALL"),
    ],
)
async def test_a_refused_call_of_grpc_web_ends_with_a_reason(
    api: Api, more: dict[str, str], expected: str
) -> None:
    async with api.http.post(GET_JOB, data=framed(b""), headers={**GRPC_WEB, **more}) as response:
        assert response.status == 200
        flags, block = await frame(response)
    assert (flags, grpc_web_reason(trailers(block))) == (END_OF_GRPC_WEB, expected)


async def test_a_deadline_ends_a_call_with_a_reason() -> None:
    headers = {**JSON, "Connect-Timeout-Ms": "50"}
    async with (
        slowly() as slow,
        slow.http.post(GET_MEDIA, data=b'{"mediaId":"a"}', headers=headers) as response,
    ):
        error = await response.json()
    assert (response.status, error["code"]) == (504, "deadline_exceeded")
    assert reason(error["details"]) == "DEADLINE_EXCEEDED"
    assert "longer timeout" in error["message"]


async def test_a_call_that_a_shutdown_cuts_off_ends_with_a_reason() -> None:
    async with slowly(shutdown_timeout=timedelta(milliseconds=100)) as slow:
        call = asyncio.create_task(slow.http.post(GET_MEDIA, json={"mediaId": "a"}))
        await slow.service.began.wait()
        await slow.gateway.stop()
        async with await call as response:
            error = await response.json()
    assert (response.status, error["code"]) == (503, "unavailable")
    assert reason(error["details"]) == "SHUTTING_DOWN"


def test_every_enum_field_of_a_request_takes_its_own_values_only() -> None:
    """JSON is checked with the values' names; this holds for numbers, on every transport."""
    modules = (
        ingest_service_pb2,
        job_service_pb2,
        media_service_pb2,
        source_service_pb2,
        system_service_pb2,
        webhook_service_pb2,
    )
    messages = {
        message.full_name: message
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        for message in _messages(method.input_type)
    }
    fields = [(each, field) for each in messages.values() for field in each.fields]
    assert any(field.enum_type for _, field in fields)
    for kind, field in fields:
        if field.enum_type is None:
            continue
        message = GetMessageClass(kind)()
        if field.is_repeated:
            getattr(message, field.name).append(99)
        else:
            setattr(message, field.name, 99)
        with pytest.raises(Failure) as caught:
            check(message)
        words = [caught.value.violations.get(name) for name in (field.name, f"{field.name}[0]")]
        assert f"must be {enum_values(field.enum_type)}" in words


def _messages(message: Descriptor) -> Iterator[Descriptor]:
    """Yield a message and those in it. Of a Media, UpdateMedia reads only fields without enums."""
    yield message
    for field in message.fields:
        if field.message_type not in {None, Media.DESCRIPTOR}:
            yield from _messages(field.message_type)
