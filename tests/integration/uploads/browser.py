"""A browser that sends a part of a file to a signed link."""

from __future__ import annotations

import io

import aiohttp

PAGE = "https://page.example"


async def put(url: str, content: bytes, content_type: str = "video/mp4") -> int:
    """PUT as a page of another origin does, after the preflight; return the status."""
    asked = {
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    async with aiohttp.ClientSession(headers={"Origin": PAGE}) as session:
        async with session.options(url, headers=asked) as response:
            headers = response.headers
            assert response.status in (200, 204)
            assert headers["Access-Control-Allow-Origin"] in (PAGE, "*")
            assert "PUT" in headers["Access-Control-Allow-Methods"]
            assert headers["Access-Control-Allow-Headers"].lower() in ("content-type", "*")
        typed = {"Content-Type": content_type}
        async with session.put(url, data=io.BytesIO(content), headers=typed) as response:
            assert response.headers["Access-Control-Allow-Origin"] in (PAGE, "*")
            return response.status
