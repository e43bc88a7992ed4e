"""An extractor's id is an identity, together with its host where different owners choose ids."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yt_dlp

from ingot_server.extractor.extracted_identity import identity

UUID = "9c9de5e8-0a1e-484a-b099-e80766180a6d"


@pytest.fixture(scope="module")
def ydl() -> Iterator[yt_dlp.YoutubeDL]:
    with yt_dlp.YoutubeDL({"quiet": True}) as made:
        yield made


@pytest.mark.parametrize(
    ("extractor", "page"),
    [
        ("PeerTube", f"https://framatube.org/videos/watch/{UUID}"),
        ("PeerTube", f"https://video.blender.org/videos/watch/{UUID}"),
        ("Nitter", "https://nitter.net/firefox/status/1314279897502629888"),
        ("VideocampusSachsen", "https://videocampus.sachsen.de/m/e0d6c8ce6e394c188f1342f1ab7c50ed"),
        ("Teachable", "https://gns3.teachable.com/courses/gns3-certified/lectures/6842364"),
        ("Viidea", "http://videolectures.net/promogram_igor_mekjavic_eng/"),
        ("PBS", "http://www.pbs.org/tpt/constitution-usa-peter-sagal/watch/a-more-perfect-union/"),
    ],
)
def test_the_id_of_software_that_many_run_counts_on_its_host(
    ydl: yt_dlp.YoutubeDL, extractor: str, page: str
) -> None:
    host = page.split("/")[2]
    assert identity(ydl, {"extractor_key": extractor, "id": "7", "webpage_url": page}) == (
        f"{host}/7"
    )


@pytest.mark.parametrize(
    ("extractor", "page"),
    [
        ("Youtube", "https://www.youtube.com/watch?v=BaW_jenozKc"),
        ("Vimeo", "https://vimeo.com/56015672"),
        ("Dailymotion", "https://www.dailymotion.com/video/x5kesuj"),
        ("Soundcloud", "https://soundcloud.com/ethmusic/lostin-powers"),
        ("TikTok", "https://www.tiktok.com/@leenabhushan/video/6748451240264420610"),
        ("Twitter", "https://twitter.com/freethenipple/status/643211948184596480"),
        ("Pinterest", "https://www.pinterest.de/pin/664281013778109217/"),
        ("Facebook", "https://www.facebook.com/video.php?v=274175099429670"),
    ],
)
def test_the_id_of_one_owner_is_the_same_on_all_of_its_hosts(
    ydl: yt_dlp.YoutubeDL, extractor: str, page: str
) -> None:
    assert identity(ydl, {"extractor_key": extractor, "id": "7", "webpage_url": page}) == "7"


def test_an_id_of_a_page_that_is_not_the_extractors_does_not_count(ydl: yt_dlp.YoutubeDL) -> None:
    for page in ("https://example.com/56015672", "", "https://vimeo.example/56015672"):
        assert identity(ydl, {"extractor_key": "Vimeo", "id": "7", "webpage_url": page}) == ""
    assert identity(ydl, {"extractor_key": "Nothing", "id": "7", "webpage_url": "x"}) == ""
