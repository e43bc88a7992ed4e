"""S3 with keys that a service gives for a limited time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web

from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.blobs import Blobs
from ingot_server.setting_values import Secret
from tests.web_server import web_server

pytestmark = pytest.mark.any_stores

ROLE = "arn:aws:iam::123456789012:role/ingot"
IDENTITY = "identity-of-a-service-account"
CONTAINER = "/v2/credentials/task"
# Soon enough that each use asks for others: a renewal needs no waiting then.
LIFETIME = timedelta(seconds=5)


class KeyService:
    """STS and the services of EC2, ECS and EKS, as far as the SDK uses them.

    The keys are those of the bucket. They come without a session token, which SeaweedFS does not
    have.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        end = f"{datetime.now(UTC) + LIFETIME:%Y-%m-%dT%H:%M:%SZ}"
        access, secret = self._settings.s3_access_key, str(self._settings.s3_secret_key)
        keys = {"AccessKeyId": access, "SecretAccessKey": secret, "Token": "", "Expiration": end}
        if request.path == "/latest/api/token" and request.method == "PUT":
            return web.Response(text="session")
        if request.path.startswith("/latest/meta-data/iam/security-credentials/"):
            if request.headers.get("X-aws-ec2-metadata-token") != "session":
                return web.Response(status=401)
            if request.path.endswith("/"):
                return web.Response(text="ingot-role")
            return web.json_response({"Code": "Success", **keys})
        if request.path == CONTAINER:
            if request.headers.get("Authorization") != IDENTITY:
                return web.Response(status=401)
            return web.json_response(keys)
        query = request.query
        if (query.get("WebIdentityToken"), query.get("RoleArn")) != (IDENTITY, ROLE):
            return web.Response(status=403)
        return web.Response(
            content_type="text/xml",
            text='<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            "<AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{access}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>"
            f"<SessionToken></SessionToken><Expiration>{end}</Expiration>"
            "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        )


@asynccontextmanager
async def key_service(settings: Settings) -> AsyncIterator[tuple[KeyService, Settings]]:
    """The service, and settings without keys that lead to it."""
    service = KeyService(settings)
    async with web_server(service.handle) as address:
        yield (
            service,
            settings.replace(
                s3_access_key="",
                s3_secret_key=Secret(""),
                s3_credentials_url=f"http://{address}",
            ),
        )


async def use(settings: Settings) -> None:
    """Store, read and link."""
    blobs = Blobs(settings)
    try:
        await blobs.prepare()
        await blobs.put("media/a", b"content", content_type="video/mp4")
        found = await blobs.get("media/a")
        assert found is not None
        assert found[0] == b"content"
    finally:
        await blobs.close()


async def test_the_keys_of_a_web_identity_are_used_and_renewed(
    settings: Settings, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(f"{IDENTITY}\n")
    async with key_service(settings) as (service, without_keys):
        identified = without_keys.replace(
            s3_credentials="web-identity",
            s3_role_arn=ROLE,
            s3_web_identity_token_file=str(token),
        )
        await use(identified)
        assert len(service.asked) > 1

        token.write_text("another")
        with pytest.raises(Failure, match="HTTP status 403") as refused:
            await use(identified)
        assert "another" not in str(refused.value)


async def test_the_keys_of_the_machines_role_are_used(settings: Settings) -> None:
    async with key_service(settings) as (service, without_keys):
        await use(without_keys.replace(s3_credentials="role"))
        assert "/latest/meta-data/iam/security-credentials/ingot-role" in service.asked


@pytest.mark.parametrize(
    ("variable", "in_file"), [("RELATIVE_URI", False), ("FULL_URI", False), ("FULL_URI", True)]
)
async def test_the_keys_of_the_containers_role_are_used_and_renewed(
    variable: str,
    in_file: bool,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with key_service(settings) as (service, without_keys):
        url = f"{without_keys.s3_credentials_url}{CONTAINER}"
        if variable == "FULL_URI":
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
            url = ""
        else:
            monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", CONTAINER)
        if in_file:
            token = tmp_path / "token"
            token.write_text(IDENTITY)
            monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))
        else:
            monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", IDENTITY)
        in_container = without_keys.replace(s3_credentials="role", s3_credentials_url=url)
        await use(in_container)
        assert set(service.asked) == {CONTAINER}
        assert len(service.asked) > 1

        if in_file:
            token.write_text("another")
            with pytest.raises(Failure, match="HTTP status 401") as refused:
                await use(in_container)
            assert "another" not in str(refused.value)


async def test_a_link_for_an_upload_is_signed_with_the_same_keys_twice(
    settings: Settings, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(IDENTITY)
    async with key_service(settings) as (_, without_keys):
        blobs = Blobs(
            without_keys.replace(
                s3_credentials="web-identity",
                s3_role_arn=ROLE,
                s3_web_identity_token_file=str(token),
            )
        )
        try:
            await blobs.prepare()
            link = await blobs._s3.small.run(
                lambda: blobs._s3.link_for_put(
                    "media/b", lifetime=timedelta(minutes=1), size_bytes=7
                )
            )
            assert "content-length" in parse_qs(urlsplit(link).query)["X-Amz-SignedHeaders"][0]
            async with aiohttp.ClientSession() as http, http.put(link, data=b"content") as response:
                assert response.status == 200
        finally:
            await blobs.close()
