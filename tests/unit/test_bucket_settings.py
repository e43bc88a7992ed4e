from __future__ import annotations

from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.bucket_settings import read_bucket_settings
from ingot_server.setting_values import Secret, SettingError

INSTALLATION = Settings(
    s3_endpoint="store:9000",
    s3_access_key="own",
    s3_secret_key=Secret("own secret"),
    s3_public_endpoint="https://store.example",
)


def read(folder: Path, text: str) -> dict[str, Settings]:
    path = folder / "buckets.toml"
    path.write_text(text)
    return dict(read_bucket_settings(INSTALLATION.replace(buckets_file=str(path))))


def test_without_a_file_there_are_no_other_buckets() -> None:
    assert not read_bucket_settings(Settings())


def test_a_bucket_is_on_the_installations_server_unless_said_otherwise(tmp_path: Path) -> None:
    found = read(tmp_path, '[s3.incoming]\n[s3."with.dots"]\nregion = "eu-west-1"')
    assert list(found) == ["s3://incoming", "s3://with.dots"]
    incoming, dotted = found.values()
    assert (incoming.s3_bucket, incoming.s3_endpoint) == ("incoming", "store:9000")
    assert (incoming.s3_access_key, incoming.s3_secret_key) == ("own", "own secret")
    assert incoming.s3_public_endpoint == "https://store.example"
    assert (dotted.s3_region, dotted.s3_access_key) == ("eu-west-1", "own")


def test_another_server_is_never_shown_the_installations_keys(tmp_path: Path) -> None:
    keys = 'access_key = "a"\nsecret_key = "b"'
    found = read(
        tmp_path, f'[s3.archive]\nendpoint = "s3.test"\nsecure = true\n{keys}\n[gs.footage]\n{keys}'
    )
    archive, footage = found["s3://archive"], found["gs://footage"]
    for each in (archive, footage):
        assert (each.s3_access_key, each.s3_secret_key) == ("a", "b")
        assert (each.s3_public_endpoint, each.s3_secure) == ("", True)
    assert archive.s3_endpoint == "s3.test"
    assert (footage.s3_endpoint, footage.s3_region) == ("storage.googleapis.com", "auto")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nonsense", "is not valid TOML"),
        ("[http.x]", "[s3.NAME] or [gs.NAME]"),
        ("s3 = 1", "[s3.NAME] or [gs.NAME]"),
        ("[s3]\nx = 1", "[s3.x] is not a table"),
        ("[s3.Big]", "that is not a bucket name"),
        ("[s3.ingot]", "the installation's own bucket"),
        ("[s3.abc]\nbucket = 'x'", "has an unknown key `bucket`"),
        ("[s3.abc]\nsecure = 'yes'", "secure must be true or false"),
        ("[s3.abc]\nregion = 5", "region must be text"),
        ("[s3.abc]\nendpoint = 'elsewhere'", "needs an access_key and a secret_key"),
        ("[gs.abc]\naccess_key = 'hush'", "needs an access_key and a secret_key"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(tmp_path, text)
    assert problem in str(caught.value)
    assert "INGOT_BUCKETS_FILE" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_the_installations_bucket_can_be_another_one_beside_its_prefix(tmp_path: Path) -> None:
    path = tmp_path / "buckets.toml"
    path.write_text("[s3.ingot]")
    found = read_bucket_settings(INSTALLATION.replace(buckets_file=str(path), s3_prefix="own"))
    assert found["s3://ingot"].s3_prefix == ""


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"none\.toml cannot be read"):
        read_bucket_settings(Settings(buckets_file=str(tmp_path / "none.toml")))


async def test_the_origins_of_signed_links_are_those_of_every_bucket(tmp_path: Path) -> None:
    path = tmp_path / "buckets.toml"
    keys = 'access_key = "a"\nsecret_key = "b"'
    path.write_text(
        "[s3.incoming]\n"
        f'[s3.archive]\nendpoint = "s3.eu-west-1.amazonaws.com"\nsecure = true\n{keys}\n'
        f"[gs.footage]\n{keys}\n"
    )
    blobs = Blobs(INSTALLATION.replace(buckets_file=str(path)))
    found = blobs.link_origins()
    await blobs.close()
    assert found[-1] == "https://store.example"
    assert "https://storage.googleapis.com" in found
    assert [each for each in found if "archive" in each and each.endswith(".amazonaws.com")]
    assert len(found) == 3
