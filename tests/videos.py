"""What YouTube says of a video, and how it says no; tests/youtube.py serves it.

Only the shapes are YouTube's: the answers' fields are those that yt-dlp's extractor reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Video:
    """What the site says of one video. Change its fields at any time."""

    content: bytes = b""
    title: str = "A title with / and \u00e9"
    playability: Mapping[str, Any] = field(default_factory=lambda: {"status": "OK"})
    details: Mapping[str, Any] = field(default_factory=dict)
    exists: bool = True  # whether it has a thumbnail
    thumbnail: bytes = b"\xff\xd8\xff\xe0"
    sheet: bytes = b""  # of its storyboard: 4 pictures of 80x45 on two sheets
    player_status: int = 200  # of the player API, and of the watch page
    gate: asyncio.Event | None = None  # the media waits for it
    opens_for: str = ""  # name of a cookie: who sends it may have the video
    scrambled: bool = False  # its address has to be solved by the player's script, see PLAYER
    withheld: tuple[int, ...] = ()  # heights of formats that are announced without an address
    po_token: str = ""  # its address is given to who has this token alone
    also_without_token: bool = False  # there is a smaller format, which needs none


def error_screen(reason: str, subreason: str = "") -> dict[str, Any]:
    screen: dict[str, Any] = {"reason": {"simpleText": reason}}
    if subreason:
        screen["subreason"] = {"simpleText": subreason}
    return {"playerErrorMessageRenderer": screen}


PRIVATE = {
    "status": "LOGIN_REQUIRED",
    "messages": ["This is a private video. Please sign in to verify that you may see it."],
    "reason": "Private video",
    "errorScreen": error_screen(
        "Private video", "Sign in if you've been granted access to this video"
    ),
}
MEMBERS_ONLY = {
    "status": "UNPLAYABLE",
    "reason": "Join this channel to get access to members-only content like this video, and other "
    "exclusive perks.",
    "errorScreen": error_screen(
        "Join this channel to get access to members-only content like this video, and other "
        "exclusive perks."
    ),
}
AGE_RESTRICTED = {
    "status": "LOGIN_REQUIRED",
    "reason": "Sign in to confirm your age",
    "desktopLegacyAgeGateReason": 1,
    "errorScreen": error_screen(
        "Sign in to confirm your age", "This video may be inappropriate for some users."
    ),
}
GEO_BLOCKED = {
    "status": "UNPLAYABLE",
    "reason": "Video unavailable",
    "errorScreen": error_screen(
        "Video unavailable", "The uploader has not made this video available in your country"
    ),
}
REMOVED = {
    "status": "ERROR",
    "reason": "Video unavailable",
    "errorScreen": error_screen("Video unavailable", "This video has been removed by the uploader"),
}
TERMINATED = {
    "status": "ERROR",
    "reason": "Video unavailable",
    "errorScreen": error_screen(
        "Video unavailable",
        "This video is no longer available because the YouTube account associated with this video "
        "has been terminated.",
    ),
}
BOT_CHECK = {
    "status": "LOGIN_REQUIRED",
    "reason": "Sign in to confirm you\u2019re not a bot",
    "errorScreen": error_screen(
        "Sign in to confirm you\u2019re not a bot",
        "This helps protect our community. Learn more",
    ),
}
SESSION_LIMITED = {
    "status": "UNPLAYABLE",
    "reason": "This content isn't available, try again later.",
    "errorScreen": error_screen("This content isn't available, try again later."),
}
UPCOMING = {
    "status": "LIVE_STREAM_OFFLINE",
    "reason": "Premieres in 3 hours",
    "liveStreamability": {
        "liveStreamabilityRenderer": {
            "videoId": "",
            "offlineSlate": {
                "liveStreamOfflineSlateRenderer": {"scheduledStartTime": "4070908800"}
            },
        }
    },
}
REFUSALS: dict[str, tuple[Video, str]] = {
    "private": (Video(playability=PRIVATE), "PRIVATE"),
    "members only": (Video(playability=MEMBERS_ONLY), "MEMBERS_ONLY"),
    "age restricted": (Video(playability=AGE_RESTRICTED), "AGE_RESTRICTED"),
    "geo blocked": (Video(playability=GEO_BLOCKED), "GEO_BLOCKED"),
    "removed": (Video(playability=REMOVED), "MEDIA_DOES_NOT_EXIST"),
    "terminated": (Video(playability=TERMINATED), "MEDIA_DOES_NOT_EXIST"),
    "bot check": (Video(playability=BOT_CHECK), "BOT_CHECK"),
    "rate limit": (Video(player_status=429), "RATE_LIMITED"),
    "session limited": (Video(playability=SESSION_LIMITED), "RATE_LIMITED"),
    "server error": (Video(player_status=503), "SOURCE_FAILED"),
    "live": (Video(b"x", details={"isLive": True, "isLiveContent": True}), "LIVE_STREAM"),
    "upcoming": (
        Video(playability=UPCOMING, details={"isUpcoming": True, "isLiveContent": True}),
        "UPCOMING",
    ),
}
"""What the site says, and the name of the reason that it stands for."""
