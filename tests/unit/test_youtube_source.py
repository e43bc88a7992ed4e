"""Forms of a YouTube link, and what only looks like one. Both tables are made from parts."""

from __future__ import annotations

from itertools import product
from urllib.parse import quote

import pytest

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.sources import pick
from ingot_server.sources.source import Identity
from ingot_server.sources.youtube import YouTubeSource

ID = "dQw4-9Wg_cQ"
OTHER = "aaaaaaaaaaa"
KEY = f"youtube:{ID}"
CANONICAL = f"https://www.youtube.com/watch?v={ID}"
LIST = "PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf"
CHANNEL = "UCuAXFkgsw1L7xaCfnd5JJOw"

SCHEMES = ("https://", "http://", "HTTPS://", "//", "")
HOSTS = (
    *("youtube.com", "www.youtube.com", "m.youtube.com", "music.youtube.com"),
    *("gaming.youtube.com", "WWW.YouTube.COM", "www.youtube-nocookie.com"),
)
PATHS = ("shorts", "live", "embed", "v", "vi", "e", "watch")
QUERIES = (
    *(
        "t=30s",
        "t=1m30s&feature=youtu.be",
        "si=AbCdEfGhIjKlMnOp",
        "start=5&end=9",
        "pp=ygUEdGVzdA%3D",
    ),
    *(f"list={LIST}&index=3", "list=RDdQw4-9Wg_cQ&start_radio=1", f"ab_channel=v%3D{OTHER}"),
    *(
        "feature=share&app=desktop",
        "utm_source=a&utm_medium=b",
        "autoplay=1&mute=1",
        "%74=30",
        "&&",
    ),
)


def _forms() -> list[str]:
    forms = [f"{scheme}{host}/watch?v={ID}" for scheme, host in product(SCHEMES, HOSTS)]
    forms += [
        f"{scheme}{host}/{path}/{ID}" for scheme, host, path in product(SCHEMES[:2], HOSTS, PATHS)
    ]
    forms += [
        f"{scheme}youtu.be/{ID}{end}" for scheme, end in product(SCHEMES, ("", "/", "?", "#t=9"))
    ]
    for query in QUERIES:
        forms += [f"{CANONICAL}&{query}", f"https://www.youtube.com/watch?{query}&v={ID}"]
        forms += [f"https://youtu.be/{ID}?{query}", f"https://www.youtube.com/shorts/{ID}?{query}"]
        forms += [
            f"https://www.youtube.com/embed/{ID}?{query}",
            f"m.youtube.com/watch/?{query}&v={ID}",
        ]
    inner = [
        f"/watch?v={ID}",
        f"/watch?v={ID}&feature=share",
        f"https://www.youtube.com/watch?v={ID}",
    ]
    for link in inner:
        forms.append(f"https://www.youtube.com/attribution_link?a=abc&u={quote(link, safe='')}")
        forms.append(f"http://youtube.com/attribution_link?u={quote(link, safe='')}&a=abc")
    forms.append(f"https://consent.youtube.com/m?continue={quote(CANONICAL, safe='')}&gl=DE")
    forms += [f"{blank}{CANONICAL}{blank}" for blank in (" ", "\n", "\t", "\r\n", "   ")]
    forms += [
        quote(CANONICAL, safe=""),
        quote(f"https://youtu.be/{ID}?si=x", safe=""),
        f"https://www.youtube.com/watch%3Fv%3D{ID}",
        f"https://youtu.be/{ID}%3Fsi=abc",
        f"https://www.youtube.com/watch?%76={ID}",
        f"https://www.youtube.com/watch?v={''.join(f'%{ord(mark):02x}' for mark in ID)}",
        f"https://youtu.be/{''.join(f'%{ord(mark):02X}' for mark in ID)}",
        f"https://www.youtube.com/watch?feature=x&amp;v={ID}",
        f"https://www.youtube.com/watch?v={ID}&v={ID}",
        f"https://www.youtube.com/v/{ID}&hl=en_US&fs=1",
        f"https://www.youtube.com/v/{ID}?version=3&v={ID}",
        f"https://youtu.be/{ID}&t=30s",
        f"https://www.youtube.com:443/watch?v={ID}",
        f"http://www.youtube.com:80/watch?v={ID}",
        f"https://www.youtube.com./watch?v={ID}",
        f"https://www.youtube.com//watch?v={ID}",
        f"https://www.youtube.com/./a/../watch?v={ID}",
        f"https://www.youtube.com/watch/?v={ID}",
        f"https://www.youtube.com/shorts/{ID}/",
        f"https://www.youtube.com/watch?v={ID}#t=1m",
        f"https://m.youtube.com/#/watch?v={ID}",
        f"https://m.youtube.com/#!/watch?v={ID}",
        f"https://www.youtube.com/watch#!v={ID}",
        f"https://www.youtube.com/watch_popup?v={ID}",
        f"https://www.youtube.com/?v={ID}",
        f"https://www.youtube.com/watch?vi={ID}",
        f"https://www.youtube.com/?vi={ID}&feature=related",
        f"https://www.youtube.com/ytscreeningroom?v={ID}",
        f"https://www.youtube.com/user/Scobleizer#p/u/1/{ID}",
        f"http://www.youtube.com/user/SilkRoadTheatre#p/a/u/2/{ID}",
        f"https://youtu.be/watch?v={ID}",
        f"https://www.youtube.com/embed/{ID}?list={LIST}",
        f"https://youtube.googleapis.com/v/{ID}",
        f"https://www.youtubekids.com/watch?v={ID}",
    ]
    return list(dict.fromkeys(forms))


FORMS = _forms()

NO_IDS = (
    *(ID[:-1], ID + "a", ID[:5], "", "a" * 22, ID[:-1] + ".", ID[:-1] + "%2B", ID[:-1] + "%C3%A9"),
    *(ID[:-1] + "%00", ID[:-1] + "%20", ID[:-1] + "~", ID[:-1] + "*", ID[:-1] + "%0A", "%2e%2e"),
)
FOREIGN_HOSTS = (
    *("notyoutube.com", "youtube.com.evil.example", "www.youtube.com.evil.example", "youtube.co"),
    *(
        "youtube.example",
        "youtu.be.example",
        "xyoutu.be",
        "youtu.bee",
        "you-tube.com",
        "y\u043eutube.com",
    ),
    *("youtube-com.example", "wwwyoutube.com", "youtubekids.example", "youtube.org", "127.0.0.1"),
    *("youtube.com%2Eevil.example", "evil.example/www.youtube.com", "evil.example?youtube.com"),
)
PAGES = (
    *(
        "",
        "about",
        "feed/subscriptions",
        "feed/history",
        "gaming",
        "premium",
        "results?search_query=a",
    ),
    *("hashtag/cats", "clip/UgkxU2HSeGL_NvmDJ-nQJrlLwllwMDBdGZFs", "post/UgkxAbC", "redirect?q=x"),
    *(f"channel/{CHANNEL}", "@somebody", "c/somebody", "user/somebody", f"playlist?list={LIST}"),
    *(f"watch?list={LIST}", f"embed/videoseries?list={LIST}", "embed/live_stream?channel=UCx"),
    *(
        "embed/videoseries",
        "v/live_stream",
        "watch?v=videoseries",
        "shorts",
        "shorts/",
        "live",
        "embed/",
    ),
    *(f"watch?V={ID}", f"watch?video={ID}", f"watch/x/{ID}", f"shorts/{ID}/x"),
    *(f"source/{ID}/shorts", f"x/{ID}", ID, f"oembed?url={quote(CANONICAL, safe='')}", f"a?v={ID}"),
    *(
        "attribution_link",
        "attribution_link?u=",
        f"attribution_link?u=https://evil.example/watch?v={ID}",
    ),
    f"attribution_link?u=//evil.example/watch?v={ID}",
    f"attribution_link?u={quote(f'/attribution_link?u=/watch?v={ID}', safe='')}",
)
TWO = (
    *(f"watch?v={ID}&v={OTHER}", f"watch?v={OTHER}&t=1&v={ID}", f"shorts/{ID}?v={OTHER}"),
    *(
        f"embed/{ID}?v={OTHER}",
        f"v/{ID}&v={OTHER}",
        f"watch?v={ID}&vi={OTHER}",
        f"watch/{ID}?v={OTHER}",
        f"watch?v={ID}&v=short",
    ),
)
OUR_HOSTS_WITHOUT_VIDEOS = (
    "studio.youtube.com",
    "tv.youtube.com",
    "accounts.youtube.com",
    "x.youtu.be",
)


def _near_misses() -> list[str]:
    misses = []
    for no_id in NO_IDS:
        misses += [f"https://www.youtube.com/watch?v={no_id}", f"https://youtu.be/{no_id}"]
        misses += [f"https://www.youtube.com/{path}/{no_id}" for path in PATHS[:4]]
    for host in FOREIGN_HOSTS:
        misses += [
            f"https://{host}/watch?v={ID}",
            f"http://{host}/{ID}",
            f"https://{host}/embed/{ID}",
        ]
    misses += [f"https://www.youtube.com/{page}" for page in PAGES + TWO]
    misses += [f"https://m.youtube.com/{page}" for page in PAGES + TWO]
    misses += [f"https://{host}/watch?v={ID}" for host in OUR_HOSTS_WITHOUT_VIDEOS]
    misses += [
        f"https://youtu.be/{ID}/{OTHER}",
        f"https://youtu.be/{ID}?v={OTHER}",
        f"https://www.youtube.com:8080/watch?v={ID}",
        f"https://user@www.youtube.com/watch?v={ID}",
        f"https://www.youtube.com@evil.example/watch?v={ID}",
        f"https://www.youtube.com\\@evil.example/watch?v={ID}",
        f"https://evil.example/#www.youtube.com/watch?v={ID}",
        f"https://evil.example/?u={CANONICAL}",
        f"ftp://www.youtube.com/watch?v={ID}",
        f"file:///www.youtube.com/watch?v={ID}",
        f"https://www.youtube.com/watch?v={ID[:5]} {ID[5:]}",
        f"https://www.youtube.com/watch?v={ID[:5]}\n{ID[5:]}",
        f"https:www.youtube.com/watch?v={ID}",
        ID,
        f"v={ID}",
        f"/watch?v={ID}",
    ]
    return list(dict.fromkeys(misses))


NEAR_MISSES = _near_misses()


def _answer(url: str) -> Identity | str | None:
    try:
        return YouTubeSource().identify(url)
    except Failure as failure:
        refused = failure.reason == reason_pb2.REASON_INVALID_REQUEST and failure.violations["url"]
        return "refused" if refused else f"another failure: {failure!r}"


def test_there_are_as_many_as_promised() -> None:
    assert len(FORMS) >= 200
    assert len(NEAR_MISSES) >= 200


@pytest.mark.parametrize("url", FORMS)
def test_every_form_of_a_link_is_one_media(url: str) -> None:
    source, identity = pick(url)

    assert identity == Identity("youtube", KEY, CANONICAL, CANONICAL)
    assert not source.mutable


@pytest.mark.parametrize("url", NEAR_MISSES)
def test_what_only_looks_like_a_video_is_none(url: str) -> None:
    assert _answer(url) in ("refused", None)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (f"https://www.youtube.com/watch?v={ID[:-1]}", "11 characters"),
        (f"https://youtu.be/{ID}x", "11 characters"),
        ("https://www.youtube.com/watch?t=1", "has no video id"),
        (f"https://www.youtube.com/watch?v={ID}&v={OTHER}", "two different videos"),
        (f"https://www.youtube.com/shorts/{ID}?v={OTHER}", "two different videos"),
        (f"https://www.youtube.com/playlist?list={LIST}", "options.playlist"),
        ("youtube.com/@somebody", "options.playlist"),
        ("https://www.youtube.com/clip/UgkxAbC", "names a clip"),
        ("https://www.youtube.com/results?search_query=a", "is a search"),
        ("https://www.youtube.com/", "is a page of YouTube"),
        (f"https://studio.youtube.com/video/{ID}", "shows no videos"),
        (f"https://www.youtube.com:8080/watch?v={ID}", "port 8080"),
        (f"https://me:you@www.youtube.com/watch?v={ID}", "user info"),
    ],
)
def test_a_refusal_says_what_is_wrong(url: str, problem: str) -> None:
    with pytest.raises(Failure, match=problem) as refused:
        pick(url)

    assert refused.value.reason == reason_pb2.REASON_INVALID_REQUEST
    assert problem in refused.value.violations["url"] or problem in refused.value.message


def test_the_id_is_not_cut_from_the_end_of_the_url() -> None:
    # The service before this one took the last eleven characters.
    for url in (
        f"{CANONICAL}&t=30s",
        f"https://youtu.be/{ID}?si={OTHER}",
        f"{CANONICAL}&x={OTHER}",
    ):
        assert pick(url)[1].key == KEY
    with pytest.raises(Failure):
        pick(f"https://www.youtube.com/{OTHER}")


@pytest.mark.parametrize(
    ("url", "key", "canonical"),
    [
        (f"https://www.youtube.com/playlist?list={LIST}", LIST, f"playlist?list={LIST}"),
        (f"{CANONICAL}&list={LIST}&index=2", LIST, f"playlist?list={LIST}"),
        (f"youtu.be/{ID}?list={LIST}", LIST, f"playlist?list={LIST}"),
        (f"https://www.youtube.com/embed/videoseries?list={LIST}", LIST, f"playlist?list={LIST}"),
        (f"https://music.youtube.com/browse/VL{LIST}", LIST, f"playlist?list={LIST}"),
        (f"HTTP://M.YOUTUBE.COM/playlist?list={LIST}&si=x", LIST, f"playlist?list={LIST}"),
        (
            "https://music.youtube.com/playlist?list=OLAK5uy_kX3yVwwHdAbCd",
            "OLAK5uy_kX3yVwwHdAbCd",
            "playlist?list=OLAK5uy_kX3yVwwHdAbCd",
        ),
        (
            f"youtube.com/channel/{CHANNEL}",
            f"{CHANNEL}/videos",
            f"channel/{CHANNEL}/videos",
        ),
        (
            f"youtube.com/channel/{CHANNEL}/featured",
            f"{CHANNEL}/videos",
            f"channel/{CHANNEL}/videos",
        ),
        ("https://www.youtube.com/@SomeBody", "@somebody/videos", "@somebody/videos"),
        ("https://www.youtube.com/@somebody/shorts/", "@somebody/shorts", "@somebody/shorts"),
        (
            "https://www.youtube.com/c/Some-Body/streams",
            "c/some-body/streams",
            "c/some-body/streams",
        ),
        ("https://www.youtube.com/user/SomeBody", "user/somebody/videos", "user/somebody/videos"),
    ],
)
def test_a_list_that_is_asked_for_has_one_key(url: str, key: str, canonical: str) -> None:
    identity = pick(url, playlist=True)[1]

    assert identity.key == f"youtube-playlist:{key}"
    assert identity.url == f"https://www.youtube.com/{canonical}"
    assert pick(identity.url, playlist=True)[1] == identity


def test_a_video_outside_of_any_list_stays_a_video() -> None:
    assert pick(f"https://youtu.be/{ID}", playlist=True)[1].key == KEY


@pytest.mark.parametrize(
    "url",
    [
        "https://www.youtube.com/playlist?list=nonsense",
        f"{CANONICAL}&list=nonsense",
        f"https://www.youtube.com/playlist?list={LIST}&list=PL{'a' * 20}",
        "https://www.youtube.com/@somebody/community",
        "https://www.youtube.com/channel/UCshort",
        "https://www.youtube.com/@",
        "https://www.youtube.com/@a%00b",
        f"https://studio.youtube.com/playlist?list={LIST}",
        "https://www.youtube.com/feed/subscriptions",
    ],
)
def test_what_is_neither_list_nor_video_is_refused(url: str) -> None:
    with pytest.raises(Failure) as refused:
        pick(url, playlist=True)
    assert refused.value.reason == reason_pb2.REASON_INVALID_REQUEST


def test_a_thumbnail_shows_that_a_video_exists() -> None:
    source = YouTubeSource()
    video = pick(CANONICAL)[1]
    playlist = pick(f"https://www.youtube.com/playlist?list={LIST}", playlist=True)[1]

    assert source.preflight_url(video) == f"https://i.ytimg.com/vi/{ID}/mqdefault.jpg"
    assert source.preflight_url(playlist) is None
