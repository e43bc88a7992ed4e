"""Names of files made from titles: a title is never a path, and no other file is replaced."""

import hashlib
from pathlib import Path

import pytest

from ingot import Media
from ingot.filename import file_name, free_path

ID = "m" * 52


def titled(title: str, content: bytes = b"content") -> Media:
    media = Media(id=ID, title=title)
    media.blob.url = f"s3://ingot/media/{ID}/job-1.mp3"
    media.blob.size_bytes = len(content)
    media.blob.sha256 = hashlib.sha256(content).hexdigest()
    return media


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("A Song", "A Song.mp3"),
        ("Füße (live) - 世界.", "Füße (live) - 世界.mp3"),
        ("Fu\u0308sse", "Füsse.mp3"),
        ("", f"{ID}.mp3"),
        ("  ..  ", f"{ID}.mp3"),
        ("../../etc/passwd", "_.._etc_passwd.mp3"),
        ("/etc/passwd", "_etc_passwd.mp3"),
        ("C:\\autoexec", "C__autoexec.mp3"),
        (".bashrc", "bashrc.mp3"),
        ("-rf", "rf.mp3"),
        ("a\nb\x1b[31m\u202egnp", "a b [31m gnp.mp3"),
        ('what? "this": <|*>', "what_ _this__ ____.mp3"),
        ("con", f"con_{ID}.mp3"),
        ("LPT1.x", f"LPT1.x_{ID}.mp3"),
        ("9/11", "9_11.mp3"),
    ],
)
def test_a_title_becomes_a_safe_name(title: str, name: str) -> None:
    assert file_name(titled(title)) == name
    assert Path(name).name == name


@pytest.mark.parametrize("character", ["a", "ü", "世", "\N{MUSICAL NOTE}"])
def test_a_long_title_leaves_a_name_that_can_be_written(character: str, tmp_path: Path) -> None:
    name = file_name(titled(character * 500))

    (tmp_path / f"{name} (99).part").touch()
    assert set(Path(name).stem) == {character}


def test_no_other_file_is_replaced_and_the_same_one_is_found(tmp_path: Path) -> None:
    assert free_path(tmp_path, titled("A. Song")) == tmp_path / "A. Song.mp3"

    (tmp_path / "A. Song.mp3").write_bytes(b"another")
    (tmp_path / "A. Song (2).mp3").symlink_to("nowhere")
    assert free_path(tmp_path, titled("A. Song")) == tmp_path / "A. Song (3).mp3"

    (tmp_path / "A. Song (3).mp3").write_bytes(b"content")
    assert free_path(tmp_path, titled("A. Song")) == tmp_path / "A. Song (3).mp3"
