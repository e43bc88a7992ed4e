"""The original sound comes first: format lists as sources have them, decided by yt-dlp's selector.

`YouTube`, `ARD` and so on name the extractor of yt-dlp that makes such a list. HLS and DASH
manifests are parsed by yt-dlp itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from xml.etree import ElementTree

import pytest
import yt_dlp
from yt_dlp.extractor.common import InfoExtractor

from ingot_server.extractor import formats
from ingot_server.extractor.audio_tracks import Role, language, role
from ingot_server.extractor.formats import SelectionUnavailable, Wanted
from ingot_server.extractor.renditions import correct_formats

Format: TypeAlias = dict[str, Any]
Manifest: TypeAlias = Callable[[InfoExtractor], tuple[list[Format], object]]
Offer: TypeAlias = Sequence[Format | Manifest]


@pytest.fixture(autouse=True)
def _marks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_parse_m3u8_formats_and_subtitles", "_parse_mpd_periods"):
        monkeypatch.setattr(InfoExtractor, name, getattr(InfoExtractor, name))
    correct_formats()


def audio(
    name: str, language: str | None = None, preference: float | None = None, **more: Any
) -> Any:
    found = {"format_id": name, "vcodec": "none", "acodec": "mp4a.40.2", "ext": "m4a", "abr": 128}
    return {**found, "language": language, "language_preference": preference, **more}


def opus(
    name: str, language: str | None = None, preference: float | None = None, **more: Any
) -> Any:
    return audio(name, language, preference, acodec="opus", ext="webm", **more)


def video(name: str, height: int, **more: Any) -> Any:
    found = {"format_id": name, "vcodec": "avc1.64", "acodec": "none", "ext": "mp4"}
    return {**found, "height": height, **more}


def both(
    name: str,
    height: int,
    language: str | None = None,
    preference: float | None = None,
    **more: Any,
) -> Any:
    found = video(name, height, acodec="mp4a.40.2", language=language)
    return {**found, "language_preference": preference, **more}


def hls(*lines: str) -> list[Manifest]:
    """Return a master playlist, whose formats are read when a test runs."""
    document = "\n".join(("#EXTM3U", *lines))

    def read(extractor: InfoExtractor) -> Any:
        return extractor._parse_m3u8_formats_and_subtitles(
            document, "http://example.com/master.m3u8", ext="mp4"
        )

    return [read]


def rendition(language: str, attributes: str = "", *, group: str = "a", uri: bool = True) -> str:
    address = f',URI="{language}-{group}.m3u8"' if uri else ""
    return (
        f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{group}",NAME="{language}",LANGUAGE="{language}"'
        f"{attributes and ','}{attributes}{address}"
    )


def variant(height: int, *, group: str = "a", codecs: str = "avc1.64001f,mp4a.40.2") -> str:
    audio_group = f',AUDIO="{group}"' if group else ""
    return (
        f'#EXT-X-STREAM-INF:BANDWIDTH={height}000,RESOLUTION={height}x{height},CODECS="{codecs}",'
        f'NAME="{height}"{audio_group}\n{height}.m3u8'
    )


def dash(*adaptations: str) -> list[Manifest]:
    """Return a manifest with these adaptation sets, whose formats are read when a test runs."""
    document = ElementTree.fromstring(
        '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" mediaPresentationDuration="PT4S">'
        f"<Period>{''.join(adaptations)}</Period></MPD>"
    )

    def read(extractor: InfoExtractor) -> Any:
        return extractor._parse_mpd_formats_and_subtitles(
            document, mpd_base_url="http://example.com/"
        )

    return [read]


def sound(language: str, said: str = "", *, rate: int = 128) -> str:
    return (
        f'<AdaptationSet mimeType="audio/mp4" lang="{language}">{said}'
        f'<Representation id="{language}" codecs="mp4a.40.2" bandwidth="{rate}000">'
        f"<BaseURL>{language}.m4a</BaseURL></Representation></AdaptationSet>"
    )


def picture(height: int) -> str:
    return (
        f'<AdaptationSet mimeType="video/mp4"><Representation id="{height}" codecs="avc1.64001f" '
        f'bandwidth="900000" width="{height}" height="{height}"><BaseURL>{height}.mp4</BaseURL>'
        "</Representation></AdaptationSet>"
    )


def dash_role(value: str) -> str:
    return f'<Role schemeIdUri="urn:mpeg:dash:role:2011" value="{value}"/>'


FOR_THE_BLIND = '<Accessibility schemeIdUri="urn:tva:metadata:cs:AudioPurposeCS:2007" value="1"/>'
DUBBED = [
    audio("140-0", "de", -1, format_note="German dubbed-auto"),
    audio("140-1", "es", -1, format_note="Spanish dubbed-auto"),
]
YOUTUBE = [
    *DUBBED,
    opus("251", "en", 10, format_note="English original (default)"),
    both("18", 360, language=None, preference=-1),
    video("136", 720, language_preference=-1),
    video("247", 1080, ext="webm", vcodec="vp9", language_preference=-1),
]
ARTE = [
    both("VOF-1080", 1080, preference=17),
    both("VF-STF-720", 720, preference=49),
    both("VA-1080", 1080, preference=1),
]
ARD = [
    audio("hls-deu", "deu", 10),
    audio("hls-ad", "deu-audio-description", -10, abr=256),
    video("hls-720", 720, language="deu", language_preference=10),
    video("hls-ad-1080", 1080, language="deu-audio-description", language_preference=-10),
    both("http-main", 540, "deu", 10, acodec=None),
]
ZDF = [
    both("main-deu", 720, "deu", 10),
    both("main-eng", 1080, "eng", 1, format_note="ot"),
    both("ad-deu", 1080, "deu", -10, format_note="ad"),
]
MASTER = hls(
    rendition("en", "DEFAULT=YES"), rendition("de", "DEFAULT=NO"), variant(360), variant(720)
)

BEST = Wanted(audio_only=False)
AUDIO = Wanted(audio_only=True)


def in_(language: str, *, audio_only: bool = False) -> Wanted:
    return Wanted(audio_only=audio_only, audio_language=language)


def picked(offer: Offer, wanted: Wanted) -> str:
    """Return the ids of the formats that are stored; `-` after one whose audio is left out."""

    def select(context: dict[str, Any]) -> Iterator[Any]:
        offered = formats.offered(context["formats"], wanted)
        yield from choose({**context, "formats": offered})

    options = {
        "format": select,
        "format_sort": formats.sort(audio_only=wanted.audio_only),
        "merge_output_format": formats.MERGED_INTO,
        "allow_multiple_audio_streams": wanted.all_audio_languages,
        "quiet": True,
    }
    with yt_dlp.YoutubeDL(options) as ydl:
        choose = ydl.build_format_selector(formats.selector(wanted))
        listed: list[Format] = []
        for each in offer:
            listed += each(InfoExtractor(ydl))[0] if callable(each) else [each]
        for each in listed:
            each.setdefault("url", "http://example.com/a")
        silent = {
            each["format_id"]
            for each in listed
            if each.get("acodec") != "none" != each.get("vcodec")
        }
        info = {"id": "a", "title": "a", "extractor": "x", "formats": copy.deepcopy(listed)}
        found: Mapping[str, Any] = ydl.process_video_result(info, download=False)
    return "+".join(
        part["format_id"]
        + ("-" if part.get("acodec") == "none" and part["format_id"] in silent else "")
        for part in formats.taken(found)
    )


@pytest.mark.parametrize(
    ("offer", "wanted", "expected"),
    [
        pytest.param(YOUTUBE, BEST, "247+251", id="YouTube: dubs as M4A, the original as Opus"),
        pytest.param(YOUTUBE, AUDIO, "251", id="YouTube: audio alone"),
        pytest.param(YOUTUBE, in_("de"), "247+140-0", id="YouTube: a dub on request"),
        pytest.param(YOUTUBE, in_("en"), "247+251", id="YouTube: the original on request"),
        pytest.param(
            YOUTUBE, Wanted(False, max_height=400), "18-+251", id="YouTube: low video has a dub"
        ),
        pytest.param(
            [*YOUTUBE, audio("140-d", "en-desc", -10, format_note="English descriptive", abr=256)],
            in_("en"),
            "247+251",
            id="YouTube: described audio in the same language",
        ),
        pytest.param(
            [*YOUTUBE, audio("140-2", "fr", 5, abr=256)],
            BEST,
            "247+251",
            id="YouTube: the default is a dub, because of the viewer's language",
        ),
        pytest.param(
            [*DUBBED, audio("140-2", "fr", 5), video("136", 720)],
            BEST,
            "136+140-2",
            id="YouTube: no original is marked, but a default",
        ),
        pytest.param(
            [*DUBBED, opus("251", None, None, abr=64), video("136", 720)],
            BEST,
            "136+251",
            id="YouTube: only the dubs are marked",
        ),
        pytest.param(
            [*DUBBED, video("136", 720)], in_("es"), "136+140-1", id="YouTube: nothing but dubs"
        ),
        pytest.param(
            [both("18", 360), video("136", 720), audio("140"), opus("251", abr=160)],
            BEST,
            "136+140",
            id="YouTube: one language, none named",
        ),
        pytest.param(
            [
                both("95-de", 720, "de", -1, protocol="m3u8_native"),
                both("96-de", 1080, "de", -1, protocol="m3u8_native"),
                both("95-en", 720, "en", 10, protocol="m3u8_native"),
            ],
            BEST,
            "95-en",
            id="YouTube: HLS with a lower original",
        ),
        pytest.param(ARTE, BEST, "VF-STF-720", id="Arte: the page's language, lower than the rest"),
        pytest.param(ARTE, AUDIO, "VF-STF-720", id="Arte: audio alone, out of the video"),
        pytest.param(
            [
                video("VF-v", 720, language_preference=49),
                audio("VF-a", "fr", 49),
                video("VOA-v", 1080, language_preference=17),
                audio("VOA-a", "de", 17, abr=256),
            ],
            BEST,
            "VF-v+VF-a",
            id="Arte: video and audio of one version",
        ),
        pytest.param(
            [
                audio("VF-a", "fr", 49),
                video("VOA-v", 1080, language_preference=17),
                audio("VOA-a", "de", 17),
            ],
            BEST,
            "VOA-v+VF-a",
            id="Arte: only another version has video",
        ),
        pytest.param(ARD, BEST, "hls-720+hls-deu", id="ARD: described audio has the higher video"),
        pytest.param(ARD, AUDIO, "hls-deu", id="ARD: audio alone"),
        pytest.param(
            [*ARD, both("http-ov", 1080, "eng", -10)],
            in_("en"),
            "http-ov",
            id="ARD: the original version on request",
        ),
        pytest.param(ZDF, BEST, "main-deu", id="ZDF: German, lower than the rest"),
        pytest.param(ZDF, in_("de"), "main-deu", id="ZDF: not the described version"),
        pytest.param(ZDF, in_("eng"), "main-eng", id="ZDF: the original version on request"),
        pytest.param(
            [
                both("http-360", 360, protocol="https"),
                both("http-1080", 1080, protocol="https"),
                video("hls-720", 720, protocol="m3u8_native"),
                audio("hls-audio", "en", protocol="m3u8_native"),
            ],
            BEST,
            "http-1080",
            id="Vimeo: progressive files and HLS",
        ),
        pytest.param(
            [
                audio("dash-audio-high", abr=256),
                audio("dash-audio-low", abr=64),
                video("dash", 720),
            ],
            BEST,
            "dash+dash-audio-high",
            id="Vimeo: DASH without languages",
        ),
        pytest.param(
            [
                both("Original", 2160, format_note="Original"),
                both("http-1080", 1080),
            ],
            BEST,
            "Original",
            id="Vimeo: a file that is called the original",
        ),
        pytest.param(
            hls(variant(240, group=""), variant(480, group=""), variant(1080, group="")),
            BEST,
            "1080",
            id="Dailymotion: variants with audio",
        ),
        pytest.param(
            [
                both("bbc", 720, None, None),
                both("bbc-ad", 1080, None, -10, format_note="Audio Described"),
            ],
            BEST,
            "bbc",
            id="BBC: audio description as a file of its own",
        ),
        pytest.param(
            [
                audio("fr", "fr"),
                audio("qad", "qad", -10, abr=256),
                audio("qaa", "qaa", None, abr=96),
                video("v", 720),
            ],
            in_("fr"),
            "v+fr",
            id="France TV: several renditions",
        ),
        pytest.param(
            [audio("main"), audio("dir", format_note="Director's commentary", abr=320)],
            AUDIO,
            "main",
            id="a commentary of higher quality",
        ),
        pytest.param(MASTER, BEST, "720+a-en", id="HLS: a default rendition"),
        pytest.param(MASTER, AUDIO, "a-en", id="HLS: audio alone"),
        pytest.param(MASTER, in_("de"), "720+a-de", id="HLS: another rendition on request"),
        pytest.param(
            hls(rendition("de"), rendition("en", "DEFAULT=YES"), variant(720)),
            BEST,
            "720+a-en",
            id="HLS: the first rendition says nothing, and so is not the default",
        ),
        pytest.param(
            hls(rendition("en", "DEFAULT=YES", uri=False), rendition("de"), variant(720)),
            AUDIO,
            "720",
            id="HLS: the default is in the variants, another one apart",
        ),
        pytest.param(
            hls(rendition("en", "DEFAULT=YES", uri=False), rendition("de"), variant(720)),
            in_("en"),
            "720",
            id="HLS: the language of the default in the variants",
        ),
        pytest.param(
            hls(
                rendition(
                    "en", 'DEFAULT=YES,CHARACTERISTICS="public.accessibility.describes-video"'
                ),
                rendition("en", "DEFAULT=NO", group="b"),
                variant(720),
            ),
            BEST,
            "720+b-en",
            id="HLS: described audio that is marked as the default",
        ),
        pytest.param(
            [
                *hls(rendition("en", "DEFAULT=YES"), rendition("de"), variant(720)),
                both("http", 1080, protocol="https"),
            ],
            BEST,
            "http",
            id="HLS: the same source also offers a better file",
        ),
        pytest.param(
            dash(
                sound("de", dash_role("dub"), rate=256),
                sound("en", dash_role("main")),
                picture(720),
            ),
            BEST,
            "720+en",
            id="DASH: a dub of higher quality",
        ),
        pytest.param(
            dash(sound("en", FOR_THE_BLIND, rate=256), sound("fr"), picture(720)),
            BEST,
            "720+fr",
            id="DASH: audio description",
        ),
        pytest.param(
            dash(sound("en", dash_role("commentary"), rate=256), sound("fr"), picture(720)),
            AUDIO,
            "fr",
            id="DASH: a commentary",
        ),
        pytest.param(
            dash(sound("de", dash_role("dub")), sound("en", dash_role("main")), picture(720)),
            in_("de"),
            "720+de",
            id="DASH: a dub on request",
        ),
        pytest.param(
            dash(sound("en", dash_role("alternate"), rate=256), sound("en-GB"), picture(720)),
            in_("en"),
            "720+en",
            id="DASH: exactly the requested language, although it is an alternate",
        ),
    ],
)
def test_the_original_or_what_was_asked_for(offer: Offer, wanted: Wanted, expected: str) -> None:
    assert picked(offer, wanted) == expected


def test_a_dub_is_not_taken_because_the_original_is_too_high() -> None:
    offer = [both("original", 1080, "en", 10), both("dub", 720, "de", -1)]
    with pytest.raises(
        SelectionUnavailable,
        match="With its original sound, the source offers video with a height of 1080 pixels, and "
        "max_height is 720",
    ):
        picked(offer, Wanted(False, max_height=720))


def test_the_role_of_audio_is_what_the_source_says() -> None:
    described = audio("140-d", "en-desc", -10, format_note="English descriptive")
    offer = [*YOUTUBE, described, audio("140-c", "en", format_note="Commentary")]
    roles = {each["format_id"]: role(each, offer) for each in offer}
    assert roles == {
        "140-0": Role.DUBBED,
        "140-1": Role.DUBBED,
        "251": Role.ORIGINAL,
        "18": Role.UNKNOWN,
        "136": Role.UNKNOWN,
        "247": Role.UNKNOWN,
        "140-d": Role.DESCRIBED,
        "140-c": Role.COMMENTARY,
    }
    assert language(described) == "en"
    assert role(audio("x", "es", -1), offer) is Role.DUBBED
    assert role(audio("x", "es", -1), [audio("x", "es", -1)]) is Role.UNKNOWN
