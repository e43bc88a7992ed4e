from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from ingot.v1.job_pb2 import IngestOptions
from ingot_server.extractor.protocol import Request
from ingot_server.extractor.subtitles import subtitles
from ingot_server.intake import missing_side_files, requested_side_files
from ingot_server.library.manifest_pb2 import Manifest


def request(languages: list[str], *, automatic: bool) -> Request:
    empty: dict[str, Any] = dict.fromkeys((field.name for field in dataclasses.fields(Request)), "")
    chosen = {"subtitle_languages": languages, "automatic_subtitles": automatic}
    return Request(**{**empty, **chosen})


def forms(*languages: str) -> dict[str, list[dict[str, Any]]]:
    return {language: [{"url": "http://a/b", "ext": "vtt"}] for language in languages}


@pytest.mark.parametrize(
    ("given", "made", "asked", "automatic", "taken"),
    [
        ("en", "en", ["en"], True, [("en", False)]),
        ("de", "en", ["en"], True, [("en", True)]),
        ("de", "en", ["en"], False, []),
        ("pt", "pt-BR", ["pt-BR"], True, [("pt", False)]),
        ("", "en-orig en", ["en"], True, [("en", True)]),
        ("", "en-orig", ["en"], True, [("en-orig", True)]),
        ("en", "de", ["de", "en", "en-GB"], True, [("de", True), ("en", False)]),
        ("zh-Hans", "", ["zh-Hans-CN"], False, [("zh-Hans", False)]),
        ("eng deu", "", ["en", "de"], False, [("en", False), ("de", False)]),
        ("en-US", "", ["eng"], False, [("en-US", False)]),
        ("por_BR", "", ["pt-BR"], False, [("pt-BR", False)]),
        ("English Deutsch", "", ["de", "en"], False, [("de", False), ("en", False)]),
        ("English en", "", ["en"], False, [("en", False)]),
        ("Universal", "", ["en"], False, []),
        ("Klingon", "", ["kl"], False, []),
        ("und", "", ["en"], False, []),
    ],
)
def test_subtitles_that_people_made_go_before_automatic_ones(
    given: str, made: str, asked: list[str], automatic: bool, taken: list[tuple[str, bool]]
) -> None:
    info: Mapping[str, Any] = {
        "subtitles": forms(*given.split()),
        "automatic_captions": forms(*made.split()),
    }
    found = subtitles(info, request(asked, automatic=automatic))
    assert [(language, is_automatic) for language, is_automatic, _ in found] == taken


@pytest.mark.parametrize(
    ("given", "made", "spoken", "automatic", "taken"),
    [
        ("en de live_chat", "fr", "", False, [("en", False), ("de", False)]),
        ("..", "", "", False, [("und", False)]),
        ("de", "en-orig en fr", "", True, [("de", False), ("en", True)]),
        ("de", "en fr", "fr", True, [("de", False), ("fr", True)]),
        ("de", "en fr", "", True, [("de", False)]),
    ],
)
def test_all_subtitles_are_those_that_are_not_translations_by_a_machine(
    given: str, made: str, spoken: str, automatic: bool, taken: list[tuple[str, bool]]
) -> None:
    info = {
        "subtitles": forms(*given.split()),
        "automatic_captions": forms(*made.split()),
        "language": spoken,
    }
    wanted = dataclasses.replace(request([], automatic=automatic), all_subtitles=True)
    found = subtitles(info, wanted)
    assert [(language, is_automatic) for language, is_automatic, _ in found] == taken


def test_subtitles_called_by_a_tag_go_before_those_with_a_name() -> None:
    named = {"English": [{"url": "http://a/named"}], "en": [{"url": "http://a/tagged"}]}
    [(_, _, form)] = subtitles({"subtitles": named}, request(["en"], automatic=False))
    assert form["url"] == "http://a/tagged"


@pytest.mark.parametrize(
    ("before", "now", "left"),
    [
        (IngestOptions(), IngestOptions(), None),
        (IngestOptions(), IngestOptions(thumbnail=True), IngestOptions(thumbnail=True)),
        (IngestOptions(thumbnail=True), IngestOptions(thumbnail=True), None),
        (
            IngestOptions(subtitle_languages=["de"]),
            IngestOptions(subtitle_languages=["DE", "en"], thumbnail=True),
            IngestOptions(subtitle_languages=["en"], thumbnail=True),
        ),
        (
            IngestOptions(subtitle_languages=["de"]),
            IngestOptions(subtitle_languages=["de"], automatic_subtitles=True),
            IngestOptions(subtitle_languages=["de"], automatic_subtitles=True),
        ),
        (
            IngestOptions(subtitle_languages=["de"], automatic_subtitles=True),
            IngestOptions(subtitle_languages=["de"]),
            None,
        ),
        (
            IngestOptions(info=True),
            IngestOptions(info=True, storyboard=True, all_subtitles=True),
            IngestOptions(storyboard=True, all_subtitles=True),
        ),
        (
            IngestOptions(all_subtitles=True),
            IngestOptions(all_subtitles=True, automatic_subtitles=True),
            IngestOptions(all_subtitles=True, automatic_subtitles=True),
        ),
        (IngestOptions(all_subtitles=True), IngestOptions(all_subtitles=True), None),
    ],
)
def test_a_source_is_asked_once_for_each_side_file(
    before: IngestOptions, now: IngestOptions, left: IngestOptions | None
) -> None:
    stored = Manifest(requested_side_files=requested_side_files(before))
    stored.media.extraction.extractor = "Generic"
    assert missing_side_files(stored, now) == left


def test_a_plain_file_has_no_side_files() -> None:
    assert missing_side_files(Manifest(), IngestOptions(thumbnail=True)) is None
