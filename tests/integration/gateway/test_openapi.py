"""The OpenAPI document that the server serves, and that real responses agree with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.integration.gateway.running_gateway import GET_JOB, GET_MEDIA, INGEST, URL, Api

pytestmark = pytest.mark.any_stores


def references(part: Any) -> Iterator[str]:
    """Yield every reference in a part of the document."""
    if isinstance(part, list):
        for each in part:
            yield from references(each)
    elif isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for each in part.values():
            yield from references(each)


def validator(document: Any, pointer: str) -> Draft202012Validator:
    """Return the validator of the schema at `pointer`."""
    registry = Registry().with_resource("openapi:", DRAFT202012.create_resource(document))
    return Draft202012Validator({"$ref": f"openapi:#{pointer}"}, registry=registry)


async def test_the_document_is_served_with_every_method(api: Api) -> None:
    async with api.http.get("/openapi.json") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        document = await response.json()
    assert document["openapi"].startswith("3.1")
    services = {"Feed", "Ingest", "Media", "Job", "Source", "Subscription", "System", "Webhook"}
    assert {path.split("/")[1] for path in document["paths"]} == {
        f"ingot.v1.{name}Service" for name in services
    }
    known = document["components"]
    for reference in references(document):
        _, _, kind, name = reference.split("/", 3)
        assert name in known[kind], reference
    for schema in known["schemas"].values():
        Draft202012Validator.check_schema(schema)
    assert "get" in document["paths"][GET_MEDIA]
    assert "get" not in document["paths"][INGEST]


async def test_requests_and_responses_agree_with_the_document(api: Api) -> None:
    async with api.http.get("/openapi.json") as response:
        document = await response.json()
    request = {"url": URL, "labels": {"team": "x"}, "recipes": [{"mp3": {"bitrateKbps": 192}}]}
    accepted = validator(document, "/components/schemas/IngestRequest")
    accepted.validate(request)
    for wrong in ({}, {"url": ""}, {"url": URL, "recipes": [{"mp3": {"bitrateKbps": 193}}]}):
        with pytest.raises(ValidationError):
            accepted.validate(wrong)

    async with api.http.post(INGEST, json=request) as response:
        job = await response.json()
    validator(document, "/components/schemas/IngestResponse").validate(job)
    async with api.http.post(GET_JOB, json={"jobId": job["job"]["id"]}) as response:
        validator(document, "/components/schemas/GetJobResponse").validate(await response.json())
    async with api.http.post(GET_MEDIA, json={"url": URL}) as response:
        assert response.status == 404
        validator(document, "/components/schemas/Error").validate(await response.json())
    assert document["paths"][GET_MEDIA]["post"]["responses"]["default"]["$ref"].endswith("/Error")


async def test_the_document_can_only_be_read(api: Api) -> None:
    async with api.http.post("/openapi.json", json={}) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
