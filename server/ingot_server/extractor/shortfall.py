"""What a source announced and did not give, and why. Pure, but for `watch_youtube`.

YouTube lists all formats of a video, and withholds most of them from a client that it does not
trust. yt-dlp drops those without a failure; its warnings, and what it says for debugging, are the
only trace. This module runs in the extraction child.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from yt_dlp.extractor.youtube import YoutubeIE

from ingot_server.extractor.formats import Wanted

_MAX_REMARKS: Final = 200
_MAX_TEXT: Final = 500

# What a remark means, and what to do; named as the values of Shortfall.Cause, in their order.
_CAUSES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "BOT_CHECK": (
        re.compile(r"not a bot|LOGIN_REQUIRED.*bot|captcha", re.IGNORECASE),
        "the source takes this server for a bot, and cookies of an account may help",
    ),
    "PO_TOKEN": (
        re.compile(r"PO.?Token", re.IGNORECASE),
        "it wants a PO token, and Ingot had none that it accepts (docs/extractor.md)",
    ),
    "JAVASCRIPT": (
        re.compile(r"JavaScript runtime|challenge solving failed|Signature solving failed"),
        "its JavaScript could not be run, and `ingot-server extractor update` may help",
    ),
    "PROTOCOL": (
        re.compile(r"\bSABR\b"),
        "it gives some formats only through a protocol of its own (SABR)",
    ),
}


@dataclass(slots=True)
class Announced:
    """What a source and yt-dlp said of the formats of one media item."""

    heights: set[int] = field(default_factory=set)
    remarks: list[str] = field(default_factory=list)

    def note(self, remark: object) -> None:
        """Remember a warning of yt-dlp, or what it says for debugging."""
        if len(self.remarks) < _MAX_REMARKS:
            self.remarks.append(str(remark)[:_MAX_TEXT])


def shortfall(
    announced: Announced, formats: Iterable[Mapping[str, Any]], wanted: Wanted
) -> dict[str, Any] | None:
    """Return the fields of a Shortfall; None if nothing is known to be missing.

    `formats` are those that could be had. A source that refused to list formats to a client, and
    gives only such as hold both audio and video, gave the least that it has.
    """
    if wanted.audio_only:
        return None
    videos = [each for each in formats if each.get("vcodec") != "none"]
    available = _highest((each.get("height") for each in videos), wanted)
    highest = _highest(announced.heights, wanted)
    causes = list(_causes(announced.remarks))
    is_least = all(each.get("acodec") != "none" for each in videos)
    is_guess = "BOT_CHECK" in causes or (causes and not announced.heights)
    may_have_more = is_guess and is_least and available != wanted.max_height
    if not videos or not (highest > available or may_have_more):
        return None
    why = "; ".join(_CAUSES[cause][1] for cause in causes) or "it does not say why"
    known = f"announced video of up to {highest} pixels in height and gave {available}"
    guess = (
        f"gave video of {available or 'an unknown number of'} pixels in height, and may have more"
    )
    return {
        "announced_height": highest if highest > available else 0,
        "available_height": available,
        "causes": causes,
        "message": f"The source {known if highest > available else guess}: {why}.",
    }


def lacks_po_token(announced: Announced, found: Mapping[str, Any] | None, wanted: Wanted) -> bool:
    """Tell whether a PO token may give more than what was found; None: nothing was."""
    if found is None:
        return "PO_TOKEN" in _causes(announced.remarks)
    missing = shortfall(announced, found.get("formats") or (), wanted)
    return missing is not None and "PO_TOKEN" in missing["causes"]


def _highest(heights: Iterable[Any], wanted: Wanted) -> int:
    limit = wanted.max_height or float("inf")
    known = [height for height in heights if isinstance(height, int) and 0 < height <= limit]
    return max(known, default=0)


def _causes(remarks: Sequence[str]) -> Iterator[str]:
    for name, (words, _) in _CAUSES.items():
        if any(words.search(remark) for remark in remarks):
            yield name


def watch_youtube() -> None:
    """Make the YouTube extractor tell its Downloader which formats YouTube announced."""
    extract = getattr(YoutubeIE, "_extract_player_responses", None)
    if extract is None:
        return  # A newer yt-dlp does it in another way: only its remarks are known then.

    def extracted(self: Any, *args: Any, **options: Any) -> Any:
        found = extract(self, *args, **options)
        for response in found[0]:
            _take(response, self._downloader.announced)
        return found

    YoutubeIE._extract_player_responses = extracted  # noqa: SLF001 - there is no hook


def _take(response: Mapping[str, Any], announced: Announced) -> None:
    status = response.get("playabilityStatus") or {}
    if status.get("status") not in {"OK", None}:
        announced.note(f"{status.get('status')}: {status.get('reason')}")
    streams = response.get("streamingData") or {}
    for each in [*(streams.get("formats") or ()), *(streams.get("adaptiveFormats") or ())]:
        height = each.get("height")
        if isinstance(height, int) and not each.get("drmFamilies"):
            announced.heights.add(height)
