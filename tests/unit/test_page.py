"""The web page as it is delivered: paths, caching, compression, and what it may do."""

from __future__ import annotations

import gzip
import re
from importlib.resources import files
from pathlib import Path
from urllib.parse import urljoin

import pytest

from ingot_server.api.page import Page, PageResponse, accepts_gzip, has_etag

S3 = "https://s3.example:9000"
SCRIPT = b"export const answer = 42;\n" * 40
GZIP = {b"accept-encoding": b"gzip, deflate, br"}


@pytest.fixture
def page(tmp_path: Path) -> Page:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_bytes(b"<!doctype html><title>Ingot</title>" * 20)
    (tmp_path / "icon.svg").write_bytes(b"<svg/>")
    (tmp_path / "assets/index-4Rd1.js").write_bytes(SCRIPT)
    (tmp_path / "assets/dot-9aZ.png").write_bytes(bytes(1000))
    return Page([S3], tmp_path)


def response(
    page: Page, path: str, headers: dict[bytes, bytes] | None = None
) -> tuple[PageResponse, dict[str, str]]:
    found = page.response(path, headers or {})
    assert found is not None
    return found, {name.decode(): value.decode() for name, value in found.headers}


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/jobs", "/ingot.v1.JobService/GetJob", "/assets/", "/assets/../index.html"],
)
def test_any_other_path_is_not_of_the_page(page: Page, path: str) -> None:
    assert page.response(path, {}) is None


def test_what_has_its_hash_in_its_name_is_kept_forever_and_the_rest_is_asked_for_again(
    page: Page,
) -> None:
    forever = "public, max-age=31536000, immutable"
    assert response(page, "/assets/index-4Rd1.js")[1]["cache-control"] == forever
    assert response(page, "/")[1]["cache-control"] == "no-cache"
    assert response(page, "/icon.svg")[1]["cache-control"] == "no-cache"


def test_a_file_is_compressed_for_those_who_accept_it(page: Page) -> None:
    plain, headers = response(page, "/assets/index-4Rd1.js")
    assert plain.body == SCRIPT
    assert headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in headers

    small, small_headers = response(page, "/assets/index-4Rd1.js", GZIP)
    assert small_headers["content-encoding"] == "gzip"
    assert int(small_headers["content-length"]) == len(small.body) < len(SCRIPT)
    assert gzip.decompress(small.body) == SCRIPT
    assert small_headers["etag"] != headers["etag"]


def test_an_image_that_is_compressed_already_is_sent_as_it_is(page: Page) -> None:
    sent, headers = response(page, "/assets/dot-9aZ.png", GZIP)
    assert sent.body == bytes(1000)
    assert "content-encoding" not in headers
    assert headers["content-type"] == "image/png"


def test_a_file_that_the_browser_has_is_not_sent_again(page: Page) -> None:
    _, headers = response(page, "/", GZIP)
    asked = {**GZIP, b"if-none-match": headers["etag"].encode()}
    again, headers_again = response(page, "/", asked)
    assert (again.status, again.body) == (304, b"")
    assert headers_again["etag"] == headers["etag"]
    assert "content-length" not in headers_again
    assert response(page, "/", {b"if-none-match": b'"other"'})[0].status == 200


def test_a_new_policy_replaces_the_one_that_the_browser_has(page: Page, tmp_path: Path) -> None:
    _, headers = response(page, "/")
    elsewhere = Page(["https://other.example"], tmp_path)
    assert response(elsewhere, "/")[1]["etag"] != headers["etag"]


def test_the_page_reaches_its_own_server_and_that_of_the_signed_links_alone(page: Page) -> None:
    policy = response(page, "/")[1]["content-security-policy"]
    directives = dict(each.split(" ", 1) for each in policy.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == "'self'"
    for name in ("img-src", "media-src", "connect-src"):
        assert directives[name] == f"'self' {S3}"
    assert directives["frame-ancestors"] == directives["base-uri"] == "'none'"
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/", "/icon.svg", "/assets/index-4Rd1.js"])
def test_no_file_is_taken_for_another_type_or_read_by_another_site(page: Page, path: str) -> None:
    headers = response(page, path)[1]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        (b"", False),
        (b"gzip", True),
        (b"GZIP;q=0.5, br", True),
        (b"br, gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"*", True),
        (b"*, gzip;q=0", False),
        (b"identity", False),
        (b"\xff", False),
    ],
)
def test_gzip_is_sent_to_those_who_name_it(header: bytes, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (b"", False),
        (b'"a"', True),
        (b'"b", W/"a"', True),
        (b"*", True),
        (b'"b"', False),
    ],
)
def test_a_browser_may_name_several_versions(header: bytes, named: bool) -> None:
    assert has_etag(header, b'"a"') is named


def test_the_built_page_needs_only_its_own_files_and_has_no_script_or_style_in_its_markup() -> None:
    page = Page()
    index, _ = response(page, "/")
    markup = index.body.decode()
    for path in re.findall(r'(?:src|href)="([^"]+)"', markup):
        assert page.response(urljoin("/", path), {}) is not None, path
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", markup)
    assert files("ingot_server").joinpath("page/index.html").is_file()
