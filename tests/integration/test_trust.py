"""What callers and sites write reaches no shell, no option and no file name; whom a worker trusts.

The sites are a web server of ours; yt-dlp, the API and the worker are real.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest

from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED, IngestOptions
from ingot.v1.media_service_pb2 import CreateDownloadUrlRequest
from ingot_server.config import Settings
from tests.harness import Harness, running_harness
from tests.installation import names_below
from tests.mediasite import serve_page, serve_presentation
from tests.origin import Origin, Page, running_origin
from tests.refusals import reason_name_of, refusal
from tests.tls import server_context

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

# Every object that an ingest may make, and every name in scratch.
KEY = re.compile(
    r"media/[a-z2-7]{52}/(?:media\.json|[a-z0-9]+-\d+(?:\.\d+)?(?:\.[a-z0-9]{1,8})?)"
    r"|alias/[a-z2-7]{52}"
    r"|journal/[0-9a-v]{26}(?:-ends)?"
)
SCRATCH = re.compile(
    r"\d+-[0-9a-f]+|lock|sweep\.lock|[a-z0-9]+-\d+-\d+(?:\.d)?|files|cookies|extractor|cache-\w{8}"
    r"|(?:media|sound|thumbnail|subtitles-\d+)(?:\.[a-z0-9]{1,8})*(?:\.part|-Frag\d+)?"
)
TEXTS = {
    "a path": "../../../../etc/cron.d/x",
    "an absolute path": "/etc/passwd",
    "a template": "%(id)s%(uploader)s%%d%s",
    "an option": "--exec=touch marker",
    "a command": "$(touch marker)`touch marker`;touch marker|touch marker",
    "lines": "one\ntwo\r\nthree",
    "a zero": "be\0ll",
    "right to left": "\u202eslleb\u202c\u2066",
    "a device": "CON.mp4::$DATA",
    "long": "\u00fc" * 5000,
    "a lone surrogate": "bell \udc80",
}


@pytest.fixture
async def harness(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Harness]:
    monkeypatch.chdir(tmp_path)  # where a command that ran would leave its marker
    async with running_harness(settings.replace(attempts=1)) as running:
        yield running


async def assert_own_names_only(harness: Harness) -> None:
    for key in await harness.keys():
        assert KEY.fullmatch(key), key


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
async def test_what_a_page_says_names_no_file(
    harness: Harness, origin: Origin, tmp_path: Path, clip: bytes, text: str
) -> None:
    url = serve_presentation(origin, clip, Title=text, Description=text)
    gate = origin.pages["/lecture.mp4"].gate = asyncio.Event()

    job = await harness.ask(url)
    ending = asyncio.create_task(harness.end(job))
    async with asyncio.timeout(60):
        await origin.asked_for("/lecture.mp4")
    names = names_below(harness.settings.scratch_dir)
    gate.set()
    job = await ending

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert [name for name in names if not SCRATCH.fullmatch(name)] == []
    await assert_own_names_only(harness)
    assert not list(tmp_path.rglob("marker"))
    shown = text.encode(errors="replace").decode().replace("\0", "")
    assert job.media.description.split() == shown.split()
    link = await harness.media.CreateDownloadUrl(CreateDownloadUrlRequest(media_id=job.media.id))
    async with aiohttp.ClientSession() as session, session.get(link.url) as answer:
        saved = answer.headers["Content-Disposition"]
    assert saved.isprintable()
    assert "/" not in saved.partition("filename*=")[0]


@pytest.mark.parametrize(
    "path",
    [
        "/..%2f..%2fetc%2fpasswd.mp4",
        "/--exec=touch%20marker.mp4",
        "/%25(id)s%0a.mp4",
        "/$(touch%20marker).mp4",
        "/-.mp4",
        "/bell.mp4;touch%20marker",
        "/bell%00.mp4",
        "/%E2%80%AEbell.mp4",
    ],
)
@pytest.mark.parametrize("extracted", [False, True], ids=["a file", "a page"])
async def test_what_a_url_says_names_no_file(
    harness: Harness, origin: Origin, tmp_path: Path, clip: bytes, path: str, extracted: bool
) -> None:
    origin.serve(path, Page(clip))
    url = origin.url(path)
    if extracted:
        said = {
            "@context": "https://schema.org",
            "@type": "VideoObject",
            "name": "A Bell",
            "contentUrl": url,
        }
        page = f'<html><script type="application/ld+json">{json.dumps(said)}</script></html>'
        url = origin.serve("/page", Page(page.encode(), content_type="text/html"))

    job = await harness.ingest(url)

    assert job.state == JOB_STATE_SUCCEEDED or reason_name_of(job) == "MEDIA_DOES_NOT_EXIST", (
        job.error
    )
    await assert_own_names_only(harness)
    assert not list(tmp_path.rglob("marker"))
    await harness.assert_idle()


@pytest.mark.parametrize(
    "url",
    [
        "--exec=touch marker",
        "-h",
        "ytsearch:bell",
        "ytsearch1:$(touch marker)",
        ":ytfav",
        "file:///etc/passwd",
        "concat:/etc/passwd",
        "/etc/passwd",
        "data:video/mp4;base64,AAAA",
        "http://127.0.0.1/\n--exec=touch marker",
        "http://127.0.0.1/\0",
        "http://-oProxyCommand=touch/bell.mp4",
        "http://127.0.0.1 --exec/bell.mp4",
    ],
)
async def test_text_that_is_not_a_url_is_refused_at_once(
    harness: Harness, tmp_path: Path, url: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await harness.ask(url)

    assert refusal(error.value).reason in {"INVALID_REQUEST", "UNSUPPORTED_URL"}
    assert not list(tmp_path.rglob("marker"))


@pytest.mark.parametrize(
    "language",
    ["../en", "en/../../x", "--all", "en,de", ".*", "e", "en\n", "%(ext)s", "-en", "en\0"],
)
async def test_text_that_is_not_a_language_is_refused_at_once(
    harness: Harness, language: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await harness.ask(
            "http://127.0.0.1/page", options=IngestOptions(subtitle_languages=["de", language])
        )
    assert refusal(error.value).reason == "INVALID_REQUEST"


async def test_a_url_gives_the_extractor_no_orders(
    harness: Harness, origin: Origin, clip: bytes
) -> None:
    url = serve_presentation(origin, clip)
    orders = "#__youtubedl_smuggle=%7B%22force_videoid%22%3A+%22..%2Fx%22%7D"

    job = await harness.ingest(serve_page(origin, "/page") + orders)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert job.media.source.page_url == url
    assert "smuggle" not in str(job)
    await assert_own_names_only(harness)


async def test_an_authority_of_ones_own_is_trusted_by_every_way_of_fetching(
    settings: Settings, clip: bytes, tmp_path: Path
) -> None:
    context, authority = server_context(tmp_path)
    trusting = settings.replace(attempts=1, egress_ca_file=str(authority))
    async with running_origin(context) as origin, running_harness(trusting) as harness:
        assert origin.base.startswith("https://")
        page = serve_page(origin, "/page")
        serve_presentation(origin, clip)

        plain = await harness.ingest(origin.serve("/clip.mp4", Page(clip)))
        extracted = await harness.ingest(page)

        for job in (plain, extracted):
            assert job.state == JOB_STATE_SUCCEEDED, job.error
            assert job.media.blob.size_bytes == len(clip)


async def test_no_other_authority_is_trusted(
    settings: Settings, clip: bytes, tmp_path: Path
) -> None:
    context, _ = server_context(tmp_path)
    async with (
        running_origin(context) as origin,
        running_harness(settings.replace(attempts=1)) as harness,
    ):
        for path in ("/clip.mp4", "/list.m3u8"):
            job = await harness.ingest(origin.serve(path, Page(clip)))
            assert job.state == JOB_STATE_FAILED
            assert reason_name_of(job) == "SOURCE_UNREACHABLE", job.error
        assert origin.log == []
        await harness.assert_nothing_is_left()
