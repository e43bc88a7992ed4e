"""The length of a frame of compressed audio by its own header, if nothing around it says so.

ISO/IEC 11172-3 and 13818-3 (MPEG audio), 14496-3 (ADTS), ETSI TS 102 366 (AC-3 and E-AC-3).
"""

from __future__ import annotations

from typing import Final

_KBPS_LAYER1: Final = (0, *range(32, 480, 32))
_KBPS_LAYER2: Final = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_KBPS_LAYER3: Final = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_LOW_LAYER1: Final = (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_KBPS_LOW: Final = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_KBPS_AC3: Final = (
    *(32, 40, 48, 56, 64, 80, 96, 112, 128, 160),
    *(192, 224, 256, 320, 384, 448, 512, 576, 640),
)
_RATES: Final = (44100, 48000, 32000)


def frame_bytes(frame: bytes) -> int:
    """Return the length that the header of `frame` announces; 0 if it has no such header."""
    if len(frame) < 6:
        return 0
    if frame[0] == 0xFF and frame[1] & 0xF6 == 0xF0:
        return (frame[3] & 3) << 11 | frame[4] << 3 | frame[5] >> 5
    if frame[0] == 0xFF and frame[1] & 0xE0 == 0xE0:
        return _mpeg_audio(frame)
    if frame.startswith(b"\x0b\x77"):
        return _ac3(frame)
    return 0


def _mpeg_audio(frame: bytes) -> int:
    version, layer = frame[1] >> 3 & 3, 4 - (frame[1] >> 1 & 3)
    rate_index, padding = frame[2] >> 2 & 3, frame[2] >> 1 & 1
    kbps_index = frame[2] >> 4
    if version == 1 or layer == 4 or rate_index == 3 or kbps_index == 15:
        return 0
    low = version != 3
    if low:
        table = _KBPS_LOW_LAYER1 if layer == 1 else _KBPS_LOW
    else:
        table = (_KBPS_LAYER1, _KBPS_LAYER2, _KBPS_LAYER3)[layer - 1]
    rate = _RATES[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    bits = table[kbps_index] * 1000
    if not bits:
        return 0  # Free format: the header does not say how long it is.
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (72 if low and layer == 3 else 144) * bits // rate + padding


def _ac3(frame: bytes) -> int:
    if frame[5] >> 3 > 10:
        return ((frame[2] & 7) << 8 | frame[3]) * 2 + 2
    rate_index, code = frame[4] >> 6, frame[4] & 63
    if rate_index == 3 or code >= 2 * len(_KBPS_AC3):
        return 0
    kbps = _KBPS_AC3[code >> 1]
    words = (kbps * 2, kbps * 96000 // 44100 + code % 2, kbps * 3)[rate_index]
    return words * 2
