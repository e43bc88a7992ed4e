"""What a caller gets to see of a failure."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.job_pb2 import IngestOptions, JobPriority
from ingot.v1.job_service_pb2 import ListJobsRequest, WatchJobsRequest
from ingot.v1.media_pb2 import Blob, Media, Selection
from ingot.v1.media_service_pb2 import (
    CreateDownloadUrlRequest,
    DownloadRequest,
    GetMediaRequest,
    ListMediaRequest,
)
from ingot_server.api import pagination as page
from ingot_server.api.caller import Caller
from ingot_server.api.media_service import filename
from ingot_server.api.status import OutOfRange, check, grpc_error, unexpected
from ingot_server.errors import TREATMENTS, Failure, reason_name
from tests.recipes import make_recipe

URL = "http://example.com/clip.mp4"
UNKNOWN = JobPriority.ValueType(9)


def violations(failure: Failure) -> dict[str, str]:
    _, _, details = grpc_error(failure)
    found = BadRequest()
    assert any(detail.Unpack(found) for detail in Status.FromString(details).details)
    return {item.field: item.description for item in found.field_violations}


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (IngestRequest(), "url", "must not be empty"),
        (IngestRequest(url="h" * 8193), "url", "at most 8192 bytes"),
        (
            IngestRequest(url=URL, priority=UNKNOWN),
            "priority",
            "JOB_PRIORITY_NORMAL or JOB_PRIORITY_HIGH",
        ),
        (IngestRequest(url=URL, labels={"A b": ""}), "labels['A b']", "lower-case"),
        (IngestRequest(url=URL, labels={"a": "x" * 256}), "labels['a']", "at most 255"),
        (IngestRequest(url=URL, labels={f"k{n}": "" for n in range(65)}), "labels", "64"),
        (IngestRequest(url=URL, request_id="a b"), "request_id", "letters, digits"),
        (IngestRequest(url=URL, max_age=Duration(seconds=-1)), "max_age", "greater than"),
        (
            IngestRequest(url=URL, selection=Selection(max_height=0)),
            "selection.max_height",
            "greater than or equal to 1",
        ),
        (
            IngestRequest(url=URL, selection=Selection(min_height=16385)),
            "selection.min_height",
            "less than or equal to 16384",
        ),
        (
            IngestRequest(url=URL, selection=Selection(min_height=721, max_height=720)),
            "selection.min_height",
            "must be at most max_height",
        ),
        (
            IngestRequest(
                url=URL,
                selection=Selection(
                    start_offset=Duration(seconds=9), end_offset=Duration(seconds=9)
                ),
            ),
            "selection.end_offset",
            "must be after start_offset",
        ),
        (
            GetMediaRequest(
                url=URL, selection=Selection(min_height=1, mode=Selection.MODE_AUDIO_ONLY)
            ),
            "selection.min_height",
            "must be unset with MODE_AUDIO_ONLY",
        ),
        (
            ConvertRequest(
                url=URL,
                recipe=make_recipe("mp3"),
                selection=Selection(mode=Selection.MODE_AUDIO_ONLY, video_codecs=["h264"]),
            ),
            "selection.video_codecs",
            "must be empty with MODE_AUDIO_ONLY",
        ),
        (
            IngestRequest(url=URL, selection=Selection(video_codecs=["avc1"])),
            "selection.video_codecs[0]",
            "must be one of av1, h264, hevc, vp8, vp9",
        ),
        (
            IngestRequest(url=URL, selection=Selection(video_codecs=["vp9", "vp9"])),
            "selection.video_codecs",
            "must not have the same value twice",
        ),
        (
            IngestRequest(url=URL, selection=Selection(audio_language="English")),
            "selection.audio_language",
            "such as `en`",
        ),
        (
            IngestRequest(url=URL, options=IngestOptions(subtitle_languages=["all of them"])),
            "options.subtitle_languages[0]",
            "such as `en`",
        ),
        (GetMediaRequest(), "name", "either media_id or url"),
        (GetMediaRequest(media_id=""), "media_id", "must not be empty"),
        (DownloadRequest(media_id="a", offset=-1), "offset", "greater than or equal to 0"),
        (DownloadRequest(media_id="a", sha256="A" * 64), "sha256", "lower-case hexadecimal"),
        (CreateDownloadUrlRequest(media_id="a", lifetime=Duration()), "lifetime", "1s"),
        (ListMediaRequest(page_size=-1), "page_size", "greater than or equal to 0"),
        (
            ListJobsRequest(states=[job_pb2.JOB_STATE_UNSPECIFIED]),
            "states[0]",
            "JOB_STATE_FAILED or JOB_STATE_CANCELLED",
        ),
        (WatchJobsRequest(snapshot_size=-1), "snapshot_size", "greater than"),
    ],
)
def test_a_broken_rule_is_reported_by_field_and_in_words(
    request_: Message, field: str, words: str
) -> None:
    with pytest.raises(Failure) as caught:
        check(request_)
    assert caught.value.reason == reason_pb2.REASON_INVALID_REQUEST
    found = violations(caught.value)
    assert words in found[field]
    assert field in caught.value.message


def test_a_valid_request_passes() -> None:
    check(IngestRequest(url=URL, request_id="a-1", labels={"team/name": "x"}))
    check(ListMediaRequest())


@pytest.mark.parametrize("reason", TREATMENTS)
def test_every_reason_has_a_code_and_one_error_info(reason: reason_pb2.Reason.ValueType) -> None:
    code, message, details = grpc_error(Failure(reason, "Why, and what to do."))
    status = Status.FromString(details)
    infos = [info for detail in status.details if detail.Unpack(info := ErrorInfo())]
    assert code is not grpc.StatusCode.OK
    assert status.code == code.value[0]
    assert status.message == message
    assert [(info.domain, info.reason) for info in infos] == [("ingot.v1", reason_name(reason))]
    assert any(d.Is(RetryInfo.DESCRIPTOR) for d in status.details) == TREATMENTS[reason].transient


def test_a_position_past_the_end_is_out_of_range() -> None:
    failure = OutOfRange(reason_pb2.REASON_INVALID_REQUEST, "Past the end.")
    code, _, details = grpc_error(failure)
    assert code is grpc.StatusCode.OUT_OF_RANGE
    assert Status.FromString(details).code == grpc.StatusCode.OUT_OF_RANGE.value[0]


@pytest.mark.parametrize("character", ["x", "\N{SNOWMAN}", "\n", "\x00"])
def test_an_error_always_fits_into_trailers(character: str) -> None:
    long = character * 10_000
    code, message, details = grpc_error(
        Failure(
            reason_pb2.REASON_INVALID_REQUEST,
            long,
            metadata={"host": long},
            violations={f"{n}{long}": long for n in range(100)},
        )
    )
    # Messages travel percent-encoded, the details in base64.
    assert len(message.encode()) * 3 + len(details) * 4 / 3 < 8192
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message.isprintable()
    assert message.endswith("...")


def test_a_defect_is_logged_once_and_reported_without_internals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failure = unexpected("ingot.v1.MediaService.GetMedia", KeyError("secret"))
    assert "secret" not in failure.message
    (record,) = caplog.records
    assert failure.metadata["correlation_id"] in failure.message
    assert failure.metadata["correlation_id"] in record.getMessage()
    assert record.exc_info is not None


def test_a_page_token_leads_to_its_item_whatever_the_page_size() -> None:
    token = page.token(ListJobsRequest(page_size=3, labels={"a": "b"}), "some-id")
    request = ListJobsRequest(page_size=7, labels={"a": "b"}, page_token=token)
    assert page.start(request) == "some-id"
    assert page.start(ListMediaRequest()) == ""


@pytest.mark.parametrize(
    "token",
    ["1", "AAAA", "\N{SNOWMAN}", "=", "a" * 1024, page.token(ListMediaRequest(), "x") + "="],
)
def test_a_strange_page_token_is_refused(token: str) -> None:
    with pytest.raises(Failure) as caught:
        page.start(ListMediaRequest(page_token=token))
    assert "page_token" in violations(caught.value)


@pytest.mark.parametrize(
    "request_",
    [
        ListMediaRequest(),
        ListJobsRequest(),
        ListJobsRequest(labels={"a": "c"}),
        ListJobsRequest(labels={"a": "b"}, states=[job_pb2.JOB_STATE_QUEUED]),
    ],
)
def test_a_page_token_of_another_list_is_refused(
    request_: ListMediaRequest | ListJobsRequest,
) -> None:
    request_.page_token = page.token(ListJobsRequest(labels={"a": "b"}), "some-id")
    with pytest.raises(Failure):
        page.start(request_)


def test_a_page_ends_before_clients_refuse_it() -> None:
    items = [Media(id=str(number), description="x" * (1 << 20)) for number in range(5)]
    media, more = page.fitting(items, 4)
    assert more
    assert [item.id for item in media] == ["0", "1"]
    assert page.fitting(items[:1], 1) == (items[:1], False)
    assert page.fitting([], 1) == ([], False)
    assert page.fitting([Media(description="x" * (5 << 20)), Media()], 9)[1]


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:40000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:40000", "%5B::1%5D"),
        ("unix:", "unix"),
        ("unix:/tmp/socket", "unix"),
    ],
)
def test_a_caller_is_known_by_its_address_without_the_port(peer: str, address: str) -> None:
    assert Caller(peer).address == address


def test_a_caller_with_a_name_is_the_same_caller_at_every_address() -> None:
    assert Caller("ipv4:127.0.0.1:40000", "ci").key == Caller("unix:", "ci").key == "ci"


@pytest.mark.parametrize(
    ("title", "content_type", "name"),
    [
        ("A clip", "video/mp4", "A clip.mp4"),
        ("clip.mp4", "video/mp4", "clip.mp4"),
        ("Überall: 1/2\n", "audio/mpeg", "Überall 1 2.mp3"),
        ("", "video/webm", "someid.webm"),
        ("..", "audio/flac", "someid.flac"),
        ("x" * 300, "video/x-matroska", "x" * 120 + ".mkv"),
        ("odd", "application/unheard-of", "odd.bin"),
    ],
)
def test_a_download_has_a_name_that_every_system_takes(
    title: str, content_type: str, name: str
) -> None:
    blob = Blob(url="s3://bucket/media/someid/1.bin", content_type=content_type)
    assert filename(Media(id="someid", title=title, blob=blob)) == name
