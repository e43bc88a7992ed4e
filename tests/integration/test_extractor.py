"""yt-dlp itself against a real web server, through the real guard. The site is ours."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import imageio_ffmpeg
import pytest

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Selection
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.result import Entries, Fetched, Resolved
from ingot_server.extractor.session import Session
from ingot_server.probe.prober import Prober
from ingot_server.setting_values import ByteSize
from tests.installation import descendants
from tests.media import media
from tests.origin import Origin, Page
from tests.waiting import until

pytestmark = [pytest.mark.any_stores, pytest.mark.slow]

BEST = Selection(mode=Selection.MODE_BEST)


@pytest.fixture
def settings() -> Settings:
    return Settings(
        egress_allow_loopback=True,
        stall_rate=ByteSize(100),
        max_media_size=ByteSize(64 << 20),
    )


@dataclass
class ExtractorHarness:
    settings: Settings
    extractor: ExtractorPool
    proxy: EgressProxy
    directory: Path
    seen: list[tuple[int, int | None]] = field(default_factory=list)

    @asynccontextmanager
    async def session(
        self, url: str, selection: Selection = BEST, options: IngestOptions | None = None
    ) -> AsyncIterator[Session]:
        egress = self.proxy.grant("job")
        try:
            async with self.extractor.session(
                url,
                selection=selection,
                options=options or IngestOptions(),
                proxy_url=egress.proxy_url,
                directory=self.directory,
            ) as session:
                yield session
        finally:
            egress.revoke()

    async def take(self, url: str, selection: Selection = BEST) -> tuple[Resolved, Fetched]:
        async with self.session(url, selection) as session:
            resolved = await session.resolve()
            assert isinstance(resolved, Resolved)
            fetched = await session.fetch(
                self.directory, lambda done, total: self.seen.append((done, total))
            )
        return resolved, fetched

    async def fails(self, url: str, reason: Reason.ValueType) -> Failure:
        with pytest.raises(Failure) as caught:
            await self.take(url)
        assert reason_name(caught.value.reason) == reason_name(reason), caught.value
        return caught.value


@asynccontextmanager
async def running_harness(settings: Settings, directory: Path) -> AsyncIterator[ExtractorHarness]:
    servers = descendants(os.getpid())
    proxy, extractor = EgressProxy(settings), ExtractorPool(settings)
    await proxy.start()
    await extractor.start()
    try:
        yield ExtractorHarness(settings, extractor, proxy, directory)
    finally:
        await extractor.close()
        await proxy.close()
        await until(lambda: set(descendants(os.getpid())) <= set(servers))


@pytest.fixture
async def harness(settings: Settings, tmp_path: Path) -> AsyncIterator[ExtractorHarness]:
    directory = tmp_path / "job"
    directory.mkdir()
    async with running_harness(settings, directory) as harness:
        yield harness


def ffmpeg(*arguments: str | Path) -> None:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run([program, "-nostdin", "-v", "error", *map(str, arguments)], check=True)


@pytest.fixture(scope="session")
def hls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty segments of a tenth of a second."""
    folder = tmp_path_factory.mktemp("hls")
    ffmpeg(
        *("-i", media("plain.mp4"), "-c:v", "libx264", "-g", "3", "-keyint_min", "3"),
        *("-force_key_frames", "expr:gte(t,n_forced*0.1)", "-c:a", "aac", "-f", "hls"),
        *("-hls_time", "0.1", "-hls_list_size", "0", "-hls_playlist_type", "vod"),
        folder / "list.m3u8",
    )
    return folder


@pytest.fixture(scope="session")
def dash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dash")
    ffmpeg(
        *("-i", media("plain.mp4"), "-map", "0", "-c", "copy", "-f", "dash"),
        *("-seg_duration", "1", folder / "list.mpd"),
    )
    return folder


def publish(origin: Origin, folder: Path) -> None:
    types = {".m3u8": "application/vnd.apple.mpegurl", ".mpd": "application/dash+xml"}
    for file in folder.iterdir():
        kind = types.get(file.suffix, "video/mp2t")
        origin.serve(f"/{file.name}", Page(file.read_bytes(), content_type=kind))


def test_importing_it_loads_neither_grpc_nor_yt_dlp() -> None:
    code = (
        "import sys, ingot_server.extractor.pool\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('grpc', 'yt_dlp')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert found.stdout.strip() == b"[]"


async def test_a_plain_file_comes_unchanged(
    origin: Origin, harness: ExtractorHarness, clip: bytes
) -> None:
    resolved, fetched = await harness.take(origin.serve("/bell.mp4", Page(clip)))

    assert fetched.path.read_bytes() == clip
    assert (resolved.extractor, resolved.extractor_id) == ("Generic", "bell")
    assert resolved.extraction.extractor_version == harness.extractor.version
    assert "the best available" in resolved.extraction.format_reason
    assert harness.seen[-1] == (len(clip), len(clip))


async def test_hls_arrives_as_one_file(
    origin: Origin, harness: ExtractorHarness, hls: Path
) -> None:
    publish(origin, hls)
    _, fetched = await harness.take(origin.url("/list.m3u8"))

    found = await Prober(harness.settings).probe(fetched.path)
    assert found.duration.ToTimedelta().total_seconds() == pytest.approx(2, abs=0.15)
    assert (len(found.video), len(found.audio)) == (1, 1)
    assert len(list(hls.glob("*.ts"))) >= 20
    done = [count for count, _ in harness.seen[:-1]]
    assert done == sorted(done)


async def test_dash_is_merged_without_encoding(
    origin: Origin, harness: ExtractorHarness, dash: Path
) -> None:
    publish(origin, dash)
    resolved, fetched = await harness.take(origin.url("/list.mpd"))

    found = await Prober(harness.settings).probe(fetched.path)
    assert found.duration.ToTimedelta().total_seconds() == pytest.approx(2, abs=0.1)
    assert (found.video[0].codec, found.audio[0].codec) == ("h264", "aac")
    assert "+" in resolved.extraction.format_id
    assert "merged into one file" in resolved.extraction.format_reason
    assert [path.name for path in harness.directory.iterdir()] == [fetched.path.name]


async def test_sound_alone_is_taken_out_of_a_clip(
    origin: Origin, harness: ExtractorHarness, clip: bytes
) -> None:
    _, fetched = await harness.take(
        origin.serve("/bell.mp4", Page(clip)), Selection(mode=Selection.MODE_AUDIO_ONLY)
    )
    found = await Prober(harness.settings).probe(fetched.path)
    assert (len(found.video), [one.codec for one in found.audio]) == (0, ["aac"])


async def test_a_segment_that_leads_inside_is_refused(
    origin: Origin, harness: ExtractorHarness, hls: Path
) -> None:
    publish(origin, hls)
    origin.serve("/list3.ts", Page(redirect="http://10.0.0.1/list3.ts"))
    failure = await harness.fails(origin.url("/list.m3u8"), reason_pb2.REASON_ADDRESS_FORBIDDEN)
    assert failure.metadata["host"] == "10.0.0.1"
    assert len(origin.gets("/list3.ts")) == 1  # no fragment retries


async def test_a_playlist_reads_nothing_local(origin: Origin, harness: ExtractorHarness) -> None:
    text = (
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/passwd\n"
        "#EXTINF:2,\n/etc/passwd\n#EXT-X-ENDLIST\n"
    )
    kind = "application/vnd.apple.mpegurl"
    url = origin.serve("/list.m3u8", Page(text.encode(), content_type=kind))
    with pytest.raises(Failure):
        await harness.take(url)
    for path in harness.directory.iterdir():
        assert b"root:" not in path.read_bytes()


async def test_a_list_that_calls_itself_a_video_opens_no_file(
    origin: Origin, harness: ExtractorHarness
) -> None:
    secret = harness.directory.parent / "secret.mp4"
    secret.write_bytes(media("plain.mp4").read_bytes())
    text = f"ffconcat version 1.0\nfile '{secret}'\n"
    url = origin.serve("/list.mp4", Page(text.encode()))
    with pytest.raises(Failure):
        await harness.take(url, Selection(mode=Selection.MODE_AUDIO_ONLY))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(status=404), reason_pb2.REASON_MEDIA_DOES_NOT_EXIST),
        (Page(status=429), reason_pb2.REASON_RATE_LIMITED),
        (Page(status=503), reason_pb2.REASON_SOURCE_FAILED),
        (Page(b"<html>nothing", content_type="text/html"), reason_pb2.REASON_UNSUPPORTED_URL),
        (Page(redirect="http://10.0.0.1/a.mp4"), reason_pb2.REASON_ADDRESS_FORBIDDEN),
        (Page(redirect="https://10.0.0.1/a.mp4"), reason_pb2.REASON_ADDRESS_FORBIDDEN),
        (Page(redirect="file:///etc/passwd"), reason_pb2.REASON_EXTRACTION_FAILED),
    ],
)
async def test_refusals_have_their_reason(
    origin: Origin, harness: ExtractorHarness, page: Page, reason: Reason.ValueType
) -> None:
    await harness.fails(origin.serve("/a", page), reason)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ytsearch:bell", "/etc/passwd", "ftp://a/b"])
async def test_no_other_scheme_is_taken(harness: ExtractorHarness, url: str) -> None:
    await harness.fails(url, reason_pb2.REASON_UNSUPPORTED_URL)


async def test_a_list_of_nothing_but_itself_has_no_media(
    origin: Origin, harness: ExtractorHarness
) -> None:
    page = Page(b"", content_type="application/rss+xml")
    url = origin.serve("/feed", page)
    item = f"<item><title>It</title><link>{url}</link><enclosure url='{url}'/></item>"
    page.content = f"<rss version='2.0'><channel><title>A</title>{item}</channel></rss>".encode()

    await harness.fails(url, reason_pb2.REASON_UNSUPPORTED_URL)


async def test_a_list_of_one_list_is_that_list(
    origin: Origin, harness: ExtractorHarness, clip: bytes
) -> None:
    text = "".join(f'<video src="/{name}.mp4"></video>' for name in "abc")
    page = origin.serve("/page", Page(text.encode(), content_type="text/html"))
    for name in "abc":
        origin.serve(f"/{name}.mp4", Page(clip))
    item = f"<item><title>It</title><link>{page}</link></item>"
    feed = f"<rss version='2.0'><channel><title>A</title>{item}</channel></rss>".encode()
    url = origin.serve("/feed", Page(feed, content_type="application/rss+xml"))

    async with harness.session(url) as session:
        found = await session.resolve()

    assert isinstance(found, Entries)
    assert found.urls == tuple(origin.url(f"/{name}.mp4") for name in "abc")


async def test_several_media_on_a_page_are_entries(
    origin: Origin, harness: ExtractorHarness, clip: bytes
) -> None:
    text = "".join(f'<video src="/{name}.mp4"></video>' for name in "abcd")
    url = origin.serve("/page", Page(text.encode(), content_type="text/html"))
    for name in "abcd":
        origin.serve(f"/{name}.mp4", Page(clip))
    async with harness.session(url, options=IngestOptions(playlist=True, max_entries=2)) as session:
        found = await session.resolve()
    assert isinstance(found, Entries)
    assert found.urls == tuple(origin.url(f"/{name}.mp4") for name in "abc")


async def test_a_killed_child_is_a_crash(origin: Origin, harness: ExtractorHarness) -> None:
    url = origin.serve("/a.mp4", Page(silent_after=-1))
    async with harness.session(url) as session:
        resolving = asyncio.create_task(session.resolve())
        await origin.arrived()
        os.kill(session._child.pid, signal.SIGKILL)
        with pytest.raises(Failure) as caught:
            await resolving
    assert caught.value.reason == reason_pb2.REASON_EXTRACTOR_CRASHED


async def test_a_child_that_moves_nothing_is_stalled(
    origin: Origin, settings: Settings, tmp_path: Path, clip: bytes
) -> None:
    impatient = settings.replace(stall_timeout=timedelta(seconds=3))
    url = origin.serve("/a.mp4", Page(clip))
    async with running_harness(impatient, tmp_path) as harness, harness.session(url) as session:
        await session.resolve()
        os.kill(session._child.pid, signal.SIGSTOP)
        with pytest.raises(Failure) as caught:
            await session.fetch(harness.directory, lambda _done, _total: None)
    assert caught.value.reason == reason_pb2.REASON_STALLED


async def test_a_child_that_needs_too_much_memory_is_a_crash(
    origin: Origin, settings: Settings, tmp_path: Path
) -> None:
    manifest = b"#EXTM3U\n" + bytes(150 << 20)
    page = Page(manifest, content_type="application/vnd.apple.mpegurl")
    async with running_harness(
        settings.replace(extractor_memory=ByteSize(384 << 20)), tmp_path
    ) as harness:
        await harness.fails(origin.serve("/a.m3u8", page), reason_pb2.REASON_EXTRACTOR_CRASHED)
