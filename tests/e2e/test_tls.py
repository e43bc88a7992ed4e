"""`ingot-server up` with TLS, and the clients of other languages."""

from __future__ import annotations

from pathlib import Path

from tests.certificates import Authority
from tests.ingot_command import run_command
from tests.installation import installation
from tests.npm import build_typescript_client, run_example


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
