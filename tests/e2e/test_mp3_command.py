"""`ingot mp3` on the whole system: from a URL to a song on this machine by one command."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path

import pytest
from mutagen.mp3 import MP3, BitrateMode

from ingot import Client
from tests.conversions import assert_mp3_plays
from tests.ingot_command import run_on_terminal
from tests.installation import Installation, installation
from tests.media import media
from tests.origin import Origin, Page
from tests.videos import Video
from tests.youtube import FakeYouTube

ID = "dQw4-9Wg_cQ"


async def test_a_url_becomes_a_song_here_with_one_bar(
    ingot: Installation, client: Client, origin: Origin, clip: bytes, tmp_path: Path
) -> None:
    url = origin.serve(f"/{uuid.uuid4().hex}.mp4", Page(clip, rate=len(clip) / 2))
    song = tmp_path / "song.mp3"

    code, stdout, drawn = await run_on_terminal(
        ingot.grpc_address, "mp3", url, "--bitrate", "128", "-o", song
    )

    assert code == 0, drawn
    assert stdout.startswith(f"{song}: ")
    shares = [int(share) for share in re.findall(r"(\d+)%", drawn)]
    assert shares == sorted(shares)
    assert (shares[0] < 100, shares[-1]) == (True, 100), drawn
    assert_mp3_plays(song)
    sound = MP3(song)
    assert sound.info.bitrate_mode == BitrateMode.CBR
    assert sound.info.bitrate == pytest.approx(128_000, rel=0.001)
    source = await client.media(url)
    assert sound.info.length == pytest.approx(
        source.duration.ToTimedelta().total_seconds(), abs=0.05
    )
    (made,) = [
        each async for each in client.list_media() if each.derived_from_media_id == source.id
    ]
    assert made.blob.sha256 == hashlib.sha256(song.read_bytes()).hexdigest()

    again = tmp_path / "again.mp3"
    code, *_ = await run_on_terminal(
        ingot.grpc_address, "mp3", url, "--bitrate", "128", "-o", again
    )
    assert (code, again.read_bytes()) == (0, song.read_bytes())
    assert len(origin.log) == 1


async def test_a_youtube_link_becomes_a_song_named_and_tagged_after_it(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    cover = media("picture.jpg").read_bytes()
    async with FakeYouTube().running(tmp_path) as site:
        site.videos[ID] = Video(media("plain.mp4").read_bytes(), thumbnail=cover)
        addresses = {"egress_proxy": site.proxy_url, "egress_ca_file": site.ca_file}
        with installation(tmp_path / "data", **addresses) as running:
            code, _, drawn = await run_on_terminal(
                running.grpc_address, "mp3", f"youtu.be/{ID}", "-o", here
            )
            async with Client(running.grpc_address) as client:
                stored = [each async for each in client.list_media()]

    assert code == 0, drawn
    song = here / "A title with _ and \u00e9.mp3"
    assert list(here.iterdir()) == [song]
    assert_mp3_plays(song)
    tags = MP3(song).tags
    assert tags is not None
    assert (tags["TIT2"].text, tags["TPE1"].text) == ([site.videos[ID].title], ["An uploader"])
    assert tags["APIC:"].data == cover
    # The sound was fetched alone.
    assert [each.video for each in stored] == [[], []]
