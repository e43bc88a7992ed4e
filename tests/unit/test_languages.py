"""What languages are called, and which of those that are offered is the requested one."""

from __future__ import annotations

import pytest

from ingot_server.languages import canonical_tag, in_language, language_tag


@pytest.mark.parametrize(
    ("label", "tag"),
    [
        ("English (CC)", "en"),
        ("ENGLISH", "en"),
        ("Fran\N{LATIN SMALL LETTER C WITH CEDILLA}ais", "fr"),
        ("Portuguese (Brazil)", "pt"),
        ("thai", "th"),
        ("en_US", "en-US"),
        ("ENG", "en"),
        ("ger", "de"),
        ("deu-AT", "de-AT"),
        ("gsw", "gsw"),
        ("Captions 1", ""),
        ("../../en", ""),
        ("en\n", ""),
        ("", ""),
    ],
)
def test_a_language_is_known_by_its_tag_its_code_and_its_name(label: str, tag: str) -> None:
    assert language_tag(label) == tag


@pytest.mark.parametrize(
    ("tag", "canonical"),
    [
        ("en", "en"),
        ("EN-us", "en-US"),
        ("eng", "en"),
        ("fre-ca", "fr-CA"),
        ("ZH-hans-cn", "zh-Hans-CN"),
        ("es-419", "es-419"),
        ("GSW", "gsw"),
        ("de-1996", "de-1996"),
    ],
)
def test_equal_tags_have_one_spelling(tag: str, canonical: str) -> None:
    assert canonical_tag(tag) == canonical


@pytest.mark.parametrize(
    ("wanted", "offered", "accepted"),
    [
        ("en", "en en-US de", "en"),
        ("en", "en-US en_GB de", "en-US en_GB"),
        ("en-GB", "en-US de", "en-US"),
        ("en-us", "eng en-US", "en-US"),
        ("de", "ger", "ger"),
        ("de", "English Deutsch", "Deutsch"),
        ("fr", "en de", ""),
        ("und", "und en", ""),
        ("en", "", ""),
    ],
)
def test_a_language_accepts_itself_or_else_its_variants(
    wanted: str, offered: str, accepted: str
) -> None:
    assert in_language(wanted, offered.split()) == set(accepted.split())
