from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media, SideFile
from ingot_server.backup import command
from ingot_server.backup.bucket_place import BucketPlace
from ingot_server.backup.choice import Choice
from ingot_server.backup.directory_place import DirectoryPlace
from ingot_server.backup.other_place import other_place
from ingot_server.backup.relocation import NamedFile, own_files_of, own_key, relocated
from ingot_server.backup.verified_content import VerifiedContent, verified
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.manifest_objects import Version
from ingot_server.library.manifest_pb2 import Damage, DamagedFile, Manifest
from ingot_server.setting_values import SettingError

ID = "a" * 52
CONTENT = bytes(range(256)) * 4000


def manifest(*urls: str) -> Manifest:
    blob, *sides = urls
    media = Media(id=ID, etag="e", owner="ann", pinned=True, labels={"a": "b"})
    media.blob.url = blob
    media.video.add(url=blob)
    media.audio.add(url=blob)
    media.side_files.extend(SideFile(url=each) for each in sides)
    return Manifest(media=media, damage=Damage(files=[DamagedFile(url=blob, problem="cut")]))


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (f"s3://old/media/{ID}/1.mp4", f"media/{ID}/1.mp4"),
        (f"s3://old/teams/one/media/{ID}/1.mp4", f"media/{ID}/1.mp4"),
        (f"s3://old/media/{'b' * 52}/1.mp4", None),
        (f"s3://old/media/{ID}/.1.mp4", None),
        (f"s3://old/media/{ID}/", None),
        (f"gs://old/media/{ID}/1.mp4", None),
        ("s3://drop/clip.mp4", None),
        ("", None),
    ],
)
def test_only_files_of_the_media_item_itself_move(url: str, key: str | None) -> None:
    assert own_key(url, ID) == key


def test_a_manifest_that_moves_changes_in_its_urls_only() -> None:
    there = manifest(f"s3://old/media/{ID}/1.mp4", f"s3://old/media/{ID}/1.jpg")
    here = relocated(there, lambda key: f"s3://new/x/{key}")
    expected = manifest(f"s3://new/x/media/{ID}/1.mp4", f"s3://new/x/media/{ID}/1.jpg")
    expected.ClearField("damage")
    expected.media.etag = ""
    assert here == expected
    adopted = manifest("s3://drop/clip.mp4")
    assert relocated(adopted, str).media.blob.url == "s3://drop/clip.mp4"
    assert own_files_of(adopted.media) == []


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (Choice(), True),
        (Choice({"a": "b"}, "youtube", "ann"), True),
        (Choice({"a": "c"}), False),
        (Choice({"a": "b", "c": ""}), False),
        (Choice(source="http"), False),
        (Choice(owner="bob"), False),
    ],
)
def test_a_choice_takes_what_has_all_of_it(choice: Choice, *, taken: bool) -> None:
    media = Media(labels={"a": "b"}, owner="ann")
    media.source.name = "youtube"
    assert choice.takes(media) is taken


def chunks(content: bytes) -> Iterator[bytes]:
    source = io.BytesIO(content)
    while chunk := source.read(300_000):
        yield chunk


def named(content: bytes) -> NamedFile:
    digest = hashlib.sha256(content).hexdigest()
    return NamedFile(f"media/{ID}/1.mp4", len(content), digest, "video/mp4")


@pytest.mark.parametrize("changed", [CONTENT[:-1], CONTENT + b"x", CONTENT[:-1] + b"x", b""])
def test_other_bytes_are_noticed_before_the_copy_is_complete(
    changed: bytes, tmp_path: Path
) -> None:
    wanted = verified(chunks(changed), named(CONTENT), lambda _: None)
    with (
        contextlib.closing(VerifiedContent(wanted, len(CONTENT), tmp_path)) as content,
        pytest.raises(Failure) as caught,
    ):
        content.wait(len(CONTENT) + 2)
    assert caught.value.reason == reason_pb2.REASON_MEDIA_DAMAGED


@pytest.mark.parametrize("part_bytes", [100_000, 300_000, 999_999])
def test_parts_can_be_read_twice_and_only_one_is_kept(part_bytes: int, tmp_path: Path) -> None:
    content = VerifiedContent(
        verified(chunks(CONTENT), named(CONTENT), lambda _: None), len(CONTENT), tmp_path
    )
    content.wait(50_000)
    copied, end = b"", content.wait(part_bytes)
    while end > len(copied):
        for _ in range(2):
            with content.part(len(copied), end) as part:
                data = part.read()
        copied += data
        assert content._kept.seek(0, io.SEEK_END) <= part_bytes
        end = content.wait(len(copied) + part_bytes)
    content.close()
    assert copied == CONTENT


async def test_a_directory_has_what_was_written_and_nothing_that_was_replaced(
    tmp_path: Path,
) -> None:
    source, place = DirectoryPlace(tmp_path / "source"), DirectoryPlace(tmp_path / "copy")
    file = named(CONTENT)
    (tmp_path / "source" / file.key).parent.mkdir(parents=True)
    (tmp_path / "source" / file.key).write_bytes(CONTENT)
    await place.receive(file, source, lambda _: None)
    folder = tmp_path / "copy/media" / ID
    (folder / ".2.mp4.unfinished").write_bytes(b"of a killed export")
    (folder / "0.mp4").write_bytes(b"of the version before")
    stored = relocated(manifest(f"s3://old/{file.key}"), place.url)
    when = datetime(2026, 1, 2, tzinfo=UTC)
    assert await place.write(stored, Version(None, ""), when)

    listed = await place.list_objects("media/a")
    assert [each.key for each in listed] == [file.key, f"media/{ID}/media.json"]
    assert listed[0].size_bytes == len(CONTENT)
    assert listed[1].modify_time == when
    assert await place.list_objects("media/b") == []
    assert await place.list_objects(f"media/{ID}/") == listed
    read = (await place.version(ID)).manifest
    assert read is not None
    assert read.media == stored.media
    assert (await place.version("b" * 52)).manifest is None
    assert {each.name for each in folder.iterdir()} == {"1.mp4", "media.json"}


async def test_a_directory_keeps_nothing_of_a_damaged_file(tmp_path: Path) -> None:
    source, place = DirectoryPlace(tmp_path / "source"), DirectoryPlace(tmp_path / "copy")
    file = named(CONTENT)
    (tmp_path / "source" / file.key).parent.mkdir(parents=True)
    (tmp_path / "source" / file.key).write_bytes(CONTENT[:-1])
    for missing in (False, True):
        if missing:
            (tmp_path / "source" / file.key).unlink()
        with pytest.raises(Failure):
            await place.receive(file, source, lambda _: None)
    assert [each for each in (tmp_path / "copy").rglob("*") if each.is_file()] == []


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("ftp://backup", "is neither a directory nor s3://BUCKET/FOLDER"),
        ("", "is neither a directory nor s3://BUCKET/FOLDER"),
        ("s3://B", "is not the name of a bucket"),
        ("s3://backup/media", "has the folder 'media'"),
        ("s3://ingot", "is where this installation keeps its media already"),
    ],
)
def test_an_address_that_cannot_be_used_is_named(address: str, problem: str) -> None:
    with pytest.raises(SettingError, match=re.escape(problem)):
        other_place(Settings(), address)


def test_the_other_bucket_is_where_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "buckets.toml"
    # Not the installation's own, although it has its name.
    path.write_text('[s3.ingot]\nendpoint = "far:9000"\naccess_key = "a"\nsecret_key = "b"\n')
    settings = Settings(s3_endpoint="near:9000", buckets_file=str(path))
    place = other_place(settings, "s3://ingot")
    assert isinstance(place, BucketPlace)
    assert (place.name, place.blobs.s3.endpoint) == ("s3://ingot/", "far:9000")
    place = other_place(settings, "s3://ingot-2/old/")
    assert isinstance(place, BucketPlace)
    assert (place.name, place.blobs.s3.endpoint) == ("s3://ingot-2/old/", "near:9000")


@pytest.mark.parametrize("arguments", [["--label", "a"], ["--label=a=1", "--label=a=2"]])
def test_a_label_that_says_nothing_is_refused(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_commands(parser.add_subparsers(dest="command"))
    with pytest.raises(SettingError, match="write each label once, as KEY=VALUE"):
        command.run(Settings(), parser.parse_args(["export", "backup", *arguments]))
