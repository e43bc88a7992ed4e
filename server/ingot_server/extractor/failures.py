"""What a failure of yt-dlp means: its errors and the sites' words to reasons, in one table.

The child describes its exception as a `Report` of plain values; what is said here needs no yt-dlp.
The guard's word comes first, then the class where it means one thing, then status 429, then the
first sentence of the table that the message has; else it is EXTRACTION_FAILED. The sentences are of
those extractors of yt-dlp 2026.08.19 that were read, and in English: other words match none.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.egress.addresses import address_forbidden
from ingot_server.egress.refusal import failure_from_proxy_status
from ingot_server.errors import Failure
from ingot_server.extractor.protocol import Report

_MAX_RETRY_AFTER_SECONDS: Final = 3600


_SENTENCES: Final[tuple[tuple[Reason.ValueType, str], ...]] = (
    (
        reason_pb2.REASON_BOT_CHECK,
        (
            r"confirm you.?re not a bot|captcha|unusual traffic|Cloudflare anti-bot|"
            r"blocked by Cloudflare|TLS fingerprint|verify (?:that )?you(?:'re| are) (?:a )?human|"
            r"LOGIN_REQUIRED.*bot"
        ),
    ),
    (
        reason_pb2.REASON_RATE_LIMITED,
        r"rate.?limit|too many requests|HTTP Error 429|try again later\b.*session",
    ),
    (
        reason_pb2.REASON_UPCOMING,
        (
            r"premieres? (?:in|on|at)\b|live event will begin|"
            r"will (?:begin|start) (?:in|at|on|soon)|not (?:yet )?(?:started|begun)|"
            r"has not (?:aired|started)|offline until|upcoming|isn.?t available yet|"
            r"(?:channel|user) is not currently live"
        ),
    ),
    (
        reason_pb2.REASON_MEMBERS_ONLY,
        (
            r"members.only|join this channel|channel.?s members|members on level|"
            r"requires? (?:a |an )?(?:\w+ )?(?:payment|subscription|purchase)|"
            r"(?:paid|premium|paying|subscribers?|patrons?)[ -]"
            r"(?:content|only|members?|users?|video)|"
            r"only (?:available|accessible) (?:to|for) (?:\w+ )?"
            r"(?:subscribers|members|patrons|premium)"
        ),
    ),
    (
        reason_pb2.REASON_AGE_RESTRICTED,
        (
            r"confirm your age|age.?restrict|inappropriate for some users|"
            r"age.?(?:gate|verif|limit)|only available to adults|18 years"
        ),
    ),
    (
        reason_pb2.REASON_PRIVATE,
        (
            r"\bprivate (?:video|account|playlist|content)|"
            r"(?:video|account|content|playlist|post|track|tweet)(?: \w+)? is private|"
            r"(?:log|sign) ?in\b.*(?:required|permission)|login required|"
            r"only available for registered users|protected by a password|password.protected|"
            r"requires? (?:a )?(?:login|authentication|password)|use --cookies|--video-password|"
            r"you need to (?:log|sign) in|not authorized|only works when logged.in"
        ),
    ),
    (
        reason_pb2.REASON_GEO_BLOCKED,
        (
            r"geo.?(?:graphic|restrict|block)|"
            r"(?:in|from) your (?:country|region|location|territory|geographic)|"
            r"not (?:made )?(?:this video )?available in (?:your|this) |blocked (?:it )?in your|"
            r"only available in "
        ),
    ),
    (
        reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
        (
            r"(?:has been|was|been) (?:removed|deleted|taken down|terminated)|"
            r"no longer (?:available|exists?)|does(?:n.?t| not) exist|"
            r"video (?:is )?(?:unavailable|not available|not found)|"
            r"(?:content|post|tweet|page|clip|track|media|item|episode|playlist)(?: \w+)? "
            r"(?:is )?(?:unavailable|not found|isn.?t available)|"
            r"removed by the (?:uploader|user|author)|unable to find (?:video|post)|"
            r"HTTP Error 4(?:04|10)\b|account .*(?:terminated|suspended)"
        ),
    ),
    (
        reason_pb2.REASON_SELECTION_UNAVAILABLE,
        r"Requested format is not available|has no audio of its own",
    ),
    (
        reason_pb2.REASON_UNSUPPORTED_URL,
        r"Unsupported URL|No suitable extractor|is not a valid URL|DRM",
    ),
    (
        reason_pb2.REASON_HOST_NOT_FOUND,
        (
            r"Name or service not known|nodename nor servname|Failed to resolve|getaddrinfo failed|"
            r"Could not resolve host|No address associated"
        ),
    ),
    (reason_pb2.REASON_SCRATCH_FULL, r"No space left on device|Disk quota exceeded"),
    (reason_pb2.REASON_TOO_LARGE, r"larger than max-filesize|File too large"),
    (reason_pb2.REASON_SOURCE_FAILED, r"HTTP Error 5\d\d"),
    (reason_pb2.REASON_PRIVATE, r"HTTP Error 40[13]\b"),
    (reason_pb2.REASON_GEO_BLOCKED, r"HTTP Error 451\b"),
    (
        reason_pb2.REASON_STALLED,
        r"timed out|Read timeout|The read operation timed out",
    ),
    (
        reason_pb2.REASON_TRUNCATED,
        r"bytes read, \d+ more expected|content too short|Downloaded \d+ bytes, expected",
    ),
    (
        reason_pb2.REASON_SOURCE_UNREACHABLE,
        (
            r"Connection (?:refused|reset|aborted)|Unable to connect to proxy|"
            r"Tunnel connection failed|Remote end closed|CERTIFICATE_VERIFY_FAILED|SSL|"
            r"EOF occurred|Network is unreachable"
        ),
    ),
)
_TABLE: Final = tuple((reason, re.compile(text, re.IGNORECASE)) for reason, text in _SENTENCES)
_KINDS: Final = {
    "GeoRestrictedError": reason_pb2.REASON_GEO_BLOCKED,
    "UserNotLive": reason_pb2.REASON_UPCOMING,
    "UnsupportedError": reason_pb2.REASON_UNSUPPORTED_URL,
    "SelectionUnavailable": reason_pb2.REASON_SELECTION_UNAVAILABLE,
    "LiveStream": reason_pb2.REASON_LIVE_STREAM,
    "NoExactCut": reason_pb2.REASON_SELECTION_UNAVAILABLE,
    "OutsideMedia": reason_pb2.REASON_SELECTION_UNAVAILABLE,
    "Uncuttable": reason_pb2.REASON_NOT_MEDIA,
    "Unjoinable": reason_pb2.REASON_SELECTION_UNAVAILABLE,
    "Unreadable": reason_pb2.REASON_NOT_MEDIA,
    "Incomplete": reason_pb2.REASON_TRUNCATED,
    "Upcoming": reason_pb2.REASON_UPCOMING,
    "Stalled": reason_pb2.REASON_STALLED,
    "TooLarge": reason_pb2.REASON_TOO_LARGE,
    "MemoryError": reason_pb2.REASON_EXTRACTOR_CRASHED,
}
_TUNNEL: Final = re.compile(r"(?:Tunnel connection failed: |CONNECT tunnel failed, response )(\d+)")
_ADVICE: Final = {
    reason_pb2.REASON_EXTRACTION_FAILED: "A newer version of yt-dlp may work.",
    reason_pb2.REASON_SELECTION_UNAVAILABLE: "Request another selection.",
}
_NOISE: Final = re.compile(
    r"; please report this issue on.*|\(caused by .*|[;.] ?Confirm you are on the latest version.*"
    r"|\.? ?It is recommended to use .*"
    r"|\. ?Use --\S+.*|; ?use --\S+.*|\.? ?See +https://github\.com/yt-dlp.*|^ERROR: ",
    re.IGNORECASE,
)


def crashed(what: str) -> Failure:
    """Return the failure of a child that died or broke the protocol; `what` says how."""
    return Failure(reason_pb2.REASON_EXTRACTOR_CRASHED, f"The extractor process failed: {what}.")


def failure_of_report(report: Report) -> Failure:
    """Return the failure that `report` describes; an unknown one is EXTRACTION_FAILED."""
    refused = _refused_by_the_guard(report)
    if refused is not None:
        return refused
    reason = _reason(report)
    metadata = dict(report.metadata)
    if reason == reason_pb2.REASON_EXTRACTION_FAILED and report.version:
        metadata["extractor_version"] = report.version
    if reason == reason_pb2.REASON_UPCOMING and report.start_time:
        metadata["start_time"] = report.start_time
    if report.http_status:
        metadata["http_status"] = str(report.http_status)
    return Failure(
        reason,
        " ".join(filter(None, (_first_line(report.message), _ADVICE.get(reason, "")))),
        metadata=metadata,
        retry_after=_retry_after(report.retry_after),
    )


def _refused_by_the_guard(report: Report) -> Failure | None:
    if report.proxy_status:
        failure = failure_from_proxy_status(report.proxy_status, report.host)
        if failure is not None:
            return failure
    tunnel = _TUNNEL.search(report.message)
    if tunnel is not None and tunnel[1] == "403":
        return address_forbidden(report.host or "The host", "the egress guard refuses it")
    return None


def _reason(report: Report) -> Reason.ValueType:
    for kind in report.kinds:
        if kind in _KINDS:
            return _KINDS[kind]
    if report.http_status == 429:
        return reason_pb2.REASON_RATE_LIMITED
    for reason, sentence in _TABLE:
        if sentence.search(report.message):
            return reason
    return reason_pb2.REASON_EXTRACTION_FAILED


def _first_line(message: str) -> str:
    """Return the first line, without advice for people who run yt-dlp themselves."""
    line = _NOISE.sub("", message.strip().partition("\n")[0]).strip()
    line = _NOISE.sub("", line)[:500] or "The extractor gave no reason"
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _retry_after(text: str) -> timedelta:
    seconds = int(text) if re.fullmatch(r"\d{1,9}", text.strip()) else 1
    return timedelta(seconds=min(max(seconds, 1), _MAX_RETRY_AFTER_SECONDS))
