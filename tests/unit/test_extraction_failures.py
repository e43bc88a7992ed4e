"""Messages as yt-dlp 2026.08.19 and its sites write them."""

from __future__ import annotations

import pytest
import yt_dlp.utils

from ingot.v1.reason_pb2 import Reason
from ingot_server.errors import reason_name
from ingot_server.extractor.error_report import describe
from ingot_server.extractor.failures import failure_of_report
from ingot_server.extractor.protocol import Report

YOUTUBE = "ERROR: [youtube] p9kdDet7G14: "


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Private video. Sign in if you've been granted access to this video", "PRIVATE"),
        ("This video is only available for registered users. Use --cookies", "PRIVATE"),
        (
            ("Join this channel to get access to members-only content like this video, "
            "and other exclusive perks."),
            "MEMBERS_ONLY",
        ),
        (
            ("This video is available to this channel's members on level: Gold (or any higher "
            "level). Join this channel to get access to members-only content."),
            "MEMBERS_ONLY",
        ),
        (
            ("Sign in to confirm your age. This video may be inappropriate for some users. "
            "Use --cookies-from-browser or --cookies for the authentication."),
            "AGE_RESTRICTED",
        ),
        (
            ("Sign in to confirm you\u2019re not a bot. Use --cookies-from-browser or --cookies "
            "for the authentication."),
            "BOT_CHECK",
        ),
        (
            ("Video unavailable. This video is not available. YouTube is requiring a captcha "
            "challenge before playback"),
            "BOT_CHECK",
        ),
        (
            ("Video unavailable. This content isn't available, try again later. The current "
            "session has been rate-limited by YouTube for up to an hour."),
            "RATE_LIMITED",
        ),
        ("The uploader has not made this video available in your country", "GEO_BLOCKED"),
        ("Video unavailable", "MEDIA_DOES_NOT_EXIST"),
        ("Video unavailable. This video has been removed by the uploader", "MEDIA_DOES_NOT_EXIST"),
        ("This live event will begin in 3 hours.", "UPCOMING"),
        ("Premieres in 2 days", "UPCOMING"),
        ("Requested format is not available", "SELECTION_UNAVAILABLE"),
        ("This video is DRM protected", "UNSUPPORTED_URL"),
        ("Unable to download webpage: HTTP Error 429: Too Many Requests", "RATE_LIMITED"),
        ("Unable to download webpage: HTTP Error 503: Service Unavailable", "SOURCE_FAILED"),
        ("Unable to download webpage: HTTP Error 404: Not Found", "MEDIA_DOES_NOT_EXIST"),
        ("('Unable to connect to proxy', Tunnel connection failed: 403 Forbidden)",
         "ADDRESS_FORBIDDEN"),
        ("Failed to resolve 'nowhere.example'", "HOST_NOT_FOUND"),
        ("Unable to extract title", "EXTRACTION_FAILED"),
    ],
)  # fmt: skip
def test_messages_have_their_reason(message: str, reason: str) -> None:
    assert reason_name(failure_of_report(Report(YOUTUBE + message)).reason) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (yt_dlp.utils.GeoRestrictedError("Not here"), "GEO_BLOCKED"),
        (yt_dlp.utils.UserNotLive(), "UPCOMING"),
        (yt_dlp.utils.UnsupportedError("http://example.com/"), "UNSUPPORTED_URL"),
        (yt_dlp.utils.RegexNotFoundError("Unable to extract title"), "EXTRACTION_FAILED"),
    ],
)
def test_classes_have_their_reason_inside_a_download_error(error: Exception, reason: str) -> None:
    outer = yt_dlp.utils.DownloadError(f"ERROR: {error}", (type(error), error, None))
    told = describe(outer)
    told.pop("kind")
    failure = failure_of_report(Report(**{**told, "kinds": tuple(told["kinds"])}))
    assert reason_name(failure.reason) == reason
    assert "report this issue" not in failure.message


def test_the_guards_word_comes_first() -> None:
    failure = failure_of_report(
        Report(
            "HTTP Error 403: Forbidden",
            proxy_status="ingot-egress; error=destination_ip_prohibited",
            host="10.0.0.1",
            http_status=403,
        )
    )
    assert failure.reason == Reason.REASON_ADDRESS_FORBIDDEN
