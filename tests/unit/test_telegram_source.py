from __future__ import annotations

import pytest

from ingot_server.sources import pick
from ingot_server.sources.source import FetchMethod
from ingot_server.sources.telegram import file_id_of, message_of
from tests.refused_urls import assert_refused_with_what_to_do

FILE_ID = "BAACAgIAAxkBAAIBQ2Fd-k_qVxYz0AAB9AbCdEfGhIjKlMnO"

POST = "https://t.me/durov_channel/613"
POST_FORMS = (
    POST,
    "http://t.me/durov_channel/613",
    "HTTPS://T.ME/Durov_Channel/613",
    "t.me/durov_channel/613",
    "//t.me/durov_channel/613",
    "https://t.me//durov_channel//613",
    " https://t.me/durov_channel/613\n",
    "https://t.me:443/durov_channel/613",
    "https://www.t.me/durov_channel/613",
    "https://t.me./durov_channel/613",
    "https://telegram.me/durov_channel/613",
    "https://telegram.dog/durov_channel/613",
    "telegram.me/DUROV_CHANNEL/613",
    "https://t.me/s/durov_channel/613",
    "https://T.me/S/Durov_channel/613",
    "https://t.me/durov_channel/613/",
    "https://t.me/durov_channel//613",
    "https://t.me/durov_channel/0613",
    "https://t.me/durov%5Fchannel/613",
    "https://t.me/durov_channel/613?single",
    "https://t.me/durov_channel/613?single=True",
    "https://t.me/durov_channel/613?comment=77",
    "https://t.me/durov_channel/613?thread=5&single&t=30s",
    "https://t.me/durov_channel/613?embed=1&mode=tme#top",
    "https://t.me/durov_channel/5/613",
    "https://durov_channel.t.me/613",
    "durov_channel.T.me/613?single",
    "tg://resolve?domain=durov_channel&post=613",
    "TG://Resolve?post=613&domain=Durov_Channel&single",
    "tg:resolve?domain=durov_channel&post=613&comment=9",
)

PRIVATE = "https://t.me/c/1234567890/42"
PRIVATE_FORMS = (
    PRIVATE,
    "t.me/C/1234567890/42?single",
    "https://telegram.me/c/1234567890/7/42",
    "https://telegram.dog/c/1234567890/42?thread=7",
    "tg://privatepost?channel=1234567890&post=42&single",
)

FILE = f"telegram://video/{FILE_ID}"
FILE_FORMS = (
    FILE,
    f"TELEGRAM://Video/{FILE_ID}",
    f" telegram://video/{FILE_ID}/ ",
    f"telegram:video/{FILE_ID}",
    f"telegram://document/{FILE_ID}",
    f"telegram://audio/{FILE_ID}?a=b#c",
    f"telegram://video_note/{FILE_ID}",
)

REFUSED = {
    "https://t.me/": "no post",
    "t.me": "no post",
    "https://t.me/durov_channel": "a channel, not a post",
    "https://t.me/s/durov_channel?before=20": "a channel, not a post",
    "https://durov_channel.t.me": "a channel, not a post",
    "https://t.me/durov_channel/": "a channel, not a post",
    "https://t.me/durov_channel/clip": "by its number",
    "https://t.me/durov_channel/0": "by its number",
    "https://t.me/durov_channel/-1": "by its number",
    "https://t.me/durov_channel/2147483648": "by its number",
    f"https://t.me/durov_channel/{'9' * 6000}": "by its number",
    "https://t.me/durov_channel/٦١٣": "by its number",
    "https://t.me/durov_channel/1/2/3": "by its number",
    "https://t.me/durov_channel/clip/613": "by its number",
    "https://t.me/abc/613": "no post",
    "https://t.me/1abc/613": "no post",
    "https://t.me//[1abc/613": "no post",
    "https://t.me/durov%2Fchannel/613": "no post",
    "https://t.me/+AbCdEfGh/613": "no post",
    "https://t.me/joinchat/613": "no post",
    "https://t.me/addstickers/613": "no post",
    "https://t.me/c": "private channel",
    "https://t.me/c/1234567890": "by its number",
    "https://t.me/c/durov/42": "private channel",
    "https://t.me/c/0/42": "private channel",
    "tg://resolve?domain=durov_channel": "a channel, not a post",
    "tg://resolve?phone=123": "no post",
    "tg://join?invite=abc": "no post",
    "tg://privatepost?channel=1": "by its number",
    "telegram://video/": "malformed file_id",
    "telegram://video": "no file",
    "telegram://photo/" + FILE_ID: "no file",
    f"telegram://{FILE_ID}": "no file",
    "telegram://video/short": "malformed file_id",
    f"telegram://video/{FILE_ID}/more": "no file",
    "telegram://video/..%2F..%2Fetc%2Fpasswd": "malformed file_id",
    f"telegram://video/{FILE_ID}&x=1": "malformed file_id",
    "telegram://video/" + "A" * 256: "malformed file_id",
    "telegram:": "no file",
}

# Looks like Telegram and is not: another source has it.
ELSEWHERE = (
    "https://t.me.example.com/durov_channel/613",
    "https://example.com/t.me/durov_channel/613",
    "https://at.me/durov_channel/613",
    "https://t.men/durov_channel/613",
    "https://example.com/?u=https://t.me/durov_channel/613",
    "https://t.me:8443/durov_channel/613",
    "https://telegram.org/durov_channel/613",
    "https://web.telegram.org/k/#@durov_channel",
)


@pytest.mark.parametrize("url", POST_FORMS)
def test_every_link_to_a_post_gives_one_key(url: str) -> None:
    source, identity = pick(url)
    assert (source.fetch_method, source.mutable) == (FetchMethod.TELEGRAM_POST, False)
    assert identity.source == "telegram"
    assert identity.key == "telegram:durov_channel/613"
    assert identity.url == identity.page_url == POST
    assert message_of(identity) == ("durov_channel", 613)


@pytest.mark.parametrize("url", PRIVATE_FORMS)
def test_every_link_to_a_private_post_gives_one_key(url: str) -> None:
    source, identity = pick(url)
    assert (source.fetch_method, source.mutable) == (FetchMethod.TELEGRAM_FILE, False)
    assert (identity.source, identity.key) == ("telegram", "telegram:c/1234567890/42")
    assert identity.url == identity.page_url == PRIVATE
    assert file_id_of(identity) is None
    assert message_of(identity) == (1234567890, 42)


@pytest.mark.parametrize("url", FILE_FORMS)
def test_every_way_of_writing_a_bots_file_gives_one_key(url: str) -> None:
    source, identity = pick(url)
    assert (source.fetch_method, source.mutable) == (FetchMethod.TELEGRAM_FILE, False)
    assert (identity.source, identity.key) == ("telegram", f"telegram:{FILE_ID}")
    assert identity.url == identity.page_url == FILE
    assert file_id_of(identity) == FILE_ID


@pytest.mark.parametrize("url", [POST, PRIVATE, FILE])
def test_a_canonical_url_stays_as_it_is(url: str) -> None:
    assert pick(pick(url)[1].url)[1] == pick(url)[1]


@pytest.mark.parametrize(("url", "problem"), REFUSED.items(), ids=lambda text: repr(text)[:40])
def test_what_names_no_post_and_no_file_is_refused_with_what_to_do(url: str, problem: str) -> None:
    assert_refused_with_what_to_do(url, problem)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_what_only_looks_like_telegram_is_left_to_others(url: str) -> None:
    assert pick(url)[1].source != "telegram"


def test_two_channels_and_two_spellings_of_a_file_id_stay_apart() -> None:
    urls = (
        POST,
        "https://t.me/durov_channel/614",
        "https://t.me/durov_channel2/613",
        FILE,
        f"telegram://video/{FILE_ID.lower()}",
        PRIVATE,
        "https://t.me/c/123456789/42",
    )
    assert len({pick(url)[1].key for url in urls}) == len(urls)


@pytest.mark.parametrize(
    ("url", "key", "post"),
    [
        (POST, "durov_channel/613", POST),
        ("t.me/s/Durov_Channel/613?comment=5", "durov_channel/613", POST),
        (f"{PRIVATE}?thread=7", PRIVATE.partition("t.me/")[2], PRIVATE),
    ],
)
def test_an_album_has_a_key_of_its_own_and_is_found_by_any_of_its_posts_links(
    url: str, key: str, post: str
) -> None:
    source, identity = pick(url, playlist=True)
    assert (source, identity.url) == (pick(post)[0], post)
    assert identity.key == f"telegram:{key}/album"


@pytest.mark.parametrize("post", [POST, PRIVATE])
@pytest.mark.parametrize("parameter", ["single", "single=True", "comment=5&single", "Single#top"])
def test_a_single_post_of_an_album_stays_one(post: str, parameter: str) -> None:
    assert pick(f"{post}?{parameter}", playlist=True) == pick(post)


def test_a_bots_file_is_of_no_album() -> None:
    assert pick(FILE, playlist=True) == pick(FILE)
