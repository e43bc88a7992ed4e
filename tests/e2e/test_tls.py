"""`ingot-server up` with TLS, and the clients of other languages."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp

from ingot import Client
from tests.certificates import Authority
from tests.ingot_command import run_command
from tests.installation import installation
from tests.npm import build_typescript_client, run_example
from tests.origin import Origin, Page


async def test_up_prints_the_addresses_that_clients_reach_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    with installation(
        tmp_path / "data",
        tls_certificate_file=str(pair.certificate),
        tls_key_file=str(pair.key),
        workers="0",
        convert_workers="0",
    ) as ingot:
        listed = await run_command(ingot.grpc_address, "sources", "--ca", authority.file)
        assert (listed.code, listed.stderr) == (0, "")

        http = ingot.wait_for(r"^HTTP\s+(https://\S+)")[1]
        build_typescript_client()
        output = await run_example(
            *("errors.js", "file:///etc/passwd"),
            INGOT_HTTP=http,
            NODE_EXTRA_CA_CERTS=str(authority.file),
        )
        assert "wrong input { url:" in output


async def test_links_lead_to_an_address_of_s3_for_others(
    origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    tls = ssl.create_default_context(cafile=str(authority.file))
    url = origin.serve("/linked.mp4", Page(clip))
    with installation(
        tmp_path / "data",
        tls_certificate_file=str(pair.certificate),
        tls_key_file=str(pair.key),
        s3_address="127.0.0.2:0",
    ) as ingot:
        endpoint = ingot.wait_for(r"^links\s+(\S+)")[1]
        server = f"https://{ingot.grpc_address.removeprefix('https://')}"
        async with Client(server, ca_file=str(authority.file)) as client:
            await (await client.ingest_video(url))
            link = (await client.download_url(url)).url
        assert link.startswith(f"{endpoint}/")
        assert endpoint.startswith("https://127.0.0.2:")
        async with (
            aiohttp.ClientSession() as http,
            http.get(
                link, headers={"Range": "bytes=5-9"}, ssl=tls, server_hostname="localhost"
            ) as part,
        ):
            assert (part.status, await part.read()) == (206, clip[5:10])
