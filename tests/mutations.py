"""Real media, damaged: five hundred variants, each the same in every run."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.media import media

# One of each container; small, for every variant is read and converted.
INPUTS = (
    *("plain.mp4", "fragmented.mp4", "several.mkv", "vp9.webm", "vorbis.ogg"),
    *("sound.flac", "cover.mp3", "sound.wav", "clip.ts", "clip.avi"),
)
VARIANTS = 50
_HEAD_BYTES = 1024
_LONGEST_RUN = 4096


def mutated(name: str, seed: int) -> bytes:
    """One variant of the file; `seed` says which damage, and where."""
    chance = random.Random(f"{name} {seed}")
    data = bytearray(media(name).read_bytes())
    damages = (_flip, _flip_head, _zero, _swap, _duplicate, _cut, _remove)
    for _ in range(chance.choice((1, 1, 2))):
        damages[seed % len(damages)](data, chance)
        seed //= len(damages)
    return bytes(data)


def variants(name: str, count: int = VARIANTS) -> Iterator[tuple[int, bytes]]:
    """The first `count` variants that differ from the file, with their seeds."""
    whole, seed = media(name).read_bytes(), 0
    while count:
        if (data := mutated(name, seed)) != whole:
            yield seed, data
            count -= 1
        seed += 1


def _flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 8, 64, 512))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _flip_head(data: bytearray, chance: random.Random) -> None:
    """Where sizes, rates and numbers of streams stand; an MP4 has them at its end as well."""
    first = chance.choice((0, max(0, len(data) - _HEAD_BYTES)))
    for _ in range(chance.choice((1, 4, 16))):
        at = first + chance.randrange(min(_HEAD_BYTES, len(data)))
        data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, data[at] ^ (1 << chance.randrange(8))))


def _zero(data: bytearray, chance: random.Random) -> None:
    first, end = _part(data, chance)
    data[first:end] = bytes(end - first)


def _swap(data: bytearray, chance: random.Random) -> None:
    first, end = _part(data, chance)
    to = chance.randrange(len(data) - (end - first) + 1)
    part, other = data[first:end], data[to : to + end - first]
    data[first:end], data[to : to + end - first] = other, part


def _duplicate(data: bytearray, chance: random.Random) -> None:
    first, end = _part(data, chance)
    data[end:end] = data[first:end]


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]
    data += b"\0"


def _remove(data: bytearray, chance: random.Random) -> None:
    first, end = _part(data, chance)
    del data[first:end]


def _part(data: bytearray, chance: random.Random) -> tuple[int, int]:
    length = chance.randint(1, min(_LONGEST_RUN, len(data)))
    first = chance.randrange(len(data) - length + 1)
    return first, first + length
