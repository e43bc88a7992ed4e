"""The list of metrics, the values of processes, and what is counted."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingot.v1 import job_pb2, media_service_pb2, reason_pb2
from ingot.v1.job_pb2 import Job, JobStage
from ingot.v1.source_service_pb2 import CookiesStatus
from ingot.v1.system_service_pb2 import QueueStatus, WorkerStatus
from ingot_server.api.call_metrics import MeasuredMethod
from ingot_server.api.installation import InstallationState
from ingot_server.api.metrics_report import of_installation
from ingot_server.errors import TREATMENTS, Failure
from ingot_server.jobs import changes, lifecycle
from ingot_server.jobs.measurements import AttemptTimes, count_end, released_at
from ingot_server.jobs.outcomes import Claim
from ingot_server.jobs.throttle import OpenBreaker
from ingot_server.library import recipes
from ingot_server.metrics import definitions
from ingot_server.metrics.definitions import METRICS
from ingot_server.metrics.exposition import text_of
from ingot_server.metrics.metric import Kind, Metric
from ingot_server.metrics.values import CELLS, VALUES, Snapshot, Values, read_shared
from ingot_server.sources import SOURCES
from ingot_server.tracing.scopes import Protocol
from tests.scraped import OPENMETRICS, Scraped, scraped

DOCS = Path(__file__).parents[2] / "docs"
ZERO = {definitions.SCRATCH_FREE.name: float("nan"), definitions.CHILD_PROCESSES.name: 0.0}


def now() -> Scraped:
    return scraped(text_of([VALUES.snapshot()], "")[0])


def counted(count: Callable[[], object]) -> dict[str, float]:
    """What `count` adds to the samples of this process, without the buckets of histograms."""
    before = now().samples
    count()
    return {
        " ".join((name, *(value for _, value in sorted(labels)))): value - before.get(key, 0)
        for key, value in now().samples.items()
        for name, labels in [key]
        if value != before.get(key, 0) and not name.endswith(("_bucket", "_sum"))
    }


def test_names_follow_the_conventions_and_are_unique() -> None:
    assert len({each.name for each in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"ingot_[a-z]+(_[a-z]+)*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
        assert metric.name.endswith("_info") == (metric.kind is Kind.INFO)
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
        assert metric.meaning.endswith(".")


def test_the_reference_lists_every_metric() -> None:
    page = (DOCS / "reference" / "metrics.md").read_text()
    assert set(re.findall(r"^### (\S+)$", page, re.MULTILINE)) == {each.name for each in METRICS}


def test_the_sources_are_those_that_there_are() -> None:
    assert set(definitions.SOURCES) == {each.name for each in SOURCES} | {recipes.SOURCE}
    assert definitions.source_label("vimeo") == "web"


def test_all_labels_fit_into_the_cells_of_a_process() -> None:
    """What is combined in practice is less: an end of a job has one state for each reason."""
    sources, reasons, kinds = len(definitions.SOURCES), len(TREATMENTS), len(job_pb2.JobKind.keys())
    methods, codes, stages = 50, 17, len(JobStage.keys())
    sizes = {"source": sources, "reason": reasons, "kind": kinds, "state": 2, "method": methods}
    sizes |= {"code": codes, "stage": stages, "work": 2, "result": 4, "store": 2, "error": 20}
    needed = 0
    for metric in METRICS:
        count = len(metric.buckets) + 2 if metric.buckets else 1
        for label in metric.labels:
            count *= sizes.get(label, 10)
        needed += count
    assert needed < CELLS


def test_values_are_those_that_were_counted() -> None:
    values = Values()
    definitions.SCRATCH_FREE.set(5, into=values)
    definitions.EXTRACTOR.tell("2026.1.1", into=values)
    definitions.EXTRACTOR.tell("2026.2.2", into=values)

    found = scraped(text_of([values.snapshot()], "")[0])

    assert found.value("ingot_scratch_free_bytes") == 5
    assert list(found.values("ingot_extractor_info")) == [1]
    assert found.value("ingot_extractor_info", version="2026.2.2") == 1


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.0, "0.0005"), (0.0005, "0.0005"), (0.0006, "0.001"), (99.0, "+Inf")]
)
def test_a_value_counts_in_all_buckets_that_it_is_in(value: float, bucket: str) -> None:
    before = now()
    definitions.CALL_SECONDS.observe(value, "a method")
    after = now()

    grown = [
        key
        for key in after.samples
        if key[0] == "ingot_call_duration_seconds_bucket"
        and after.samples[key] > before.samples.get(key, 0)
    ]
    bounds = [float(dict(labels)["le"]) for _, labels in grown]
    assert min(bounds) == float(bucket)
    assert max(bounds) == float("inf")
    for suffix in ("count", "sum"):
        name = f"ingot_call_duration_seconds_{suffix}"
        gained = after.value(name, method="a method") - before.value(name, method="a method")
        assert gained == pytest.approx(1 if suffix == "count" else value)


def _count_in(path: Path, amount: int) -> None:
    """What a process does that shares its values."""
    values = Values()
    values.share(path, restart=ZERO)
    for metric, *labels in (
        (definitions.CALLS, "A/B", "OK"),
        (definitions.CHILD_PROCESSES,),
    ):
        values.cells[values.place((metric.name, *labels))] += amount
    definitions.SCRATCH_FREE.set(amount, into=values)


def test_processes_are_scraped_together_and_go_on_after_a_restart(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for name, amount in (("one", 1), ("two", 20), ("one", 300)):
        process = context.Process(target=_count_in, args=(tmp_path / name, amount))
        process.start()
        process.join()

    found = scraped(text_of(read_shared(tmp_path), "")[0])

    assert found.value("ingot_calls_total", method="A/B", code="OK") == 321
    assert found.value("ingot_child_processes") == 320
    assert found.value("ingot_scratch_free_bytes") == 20  # the least
    assert len(list(tmp_path.iterdir())) == 4


def test_what_was_counted_before_values_are_shared_is_kept(tmp_path: Path) -> None:
    values = Values()
    values.cells[values.place(("ingot_calls_total", "A/B", "OK"))] += 2
    values.share(tmp_path / "one", restart={})
    values.cells[values.place(("ingot_calls_total", "A/B", "OK"))] += 1

    (snapshot,) = read_shared(tmp_path)
    assert snapshot == values.snapshot() == {("ingot_calls_total", "A/B", "OK"): (3,)}


def test_a_line_that_was_cut_by_a_kill_is_written_again(tmp_path: Path) -> None:
    values = Values()
    values.share(tmp_path / "one", restart={})
    values.cells[values.place(("ingot_calls_total", "A/B", "OK"))] += 1
    with (tmp_path / "one.keys").open("a") as file:
        file.write('[1, "ingot_calls_total", "A/')

    assert read_shared(tmp_path) == [values.snapshot()]
    again = Values()
    again.share(tmp_path / "one", restart={})
    again.cells[again.place(("ingot_calls_total", "A/C", "OK"))] += 5
    assert read_shared(tmp_path) == [again.snapshot()]
    assert len(again.snapshot()) == 2


def test_a_gauge_of_a_process_that_ended_is_not_shown(tmp_path: Path) -> None:
    values = Values()
    values.share(tmp_path / "one", restart=ZERO)
    definitions.SCRATCH_FREE.set(7, into=values)
    Values().share(tmp_path / "one", restart=ZERO)

    assert not list(
        scraped(text_of(read_shared(tmp_path), "")[0]).values("ingot_scratch_free_bytes")
    )


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("text/html", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text; version=abc", "text/plain; version=0.0.4"),
    ],
)
def test_the_format_is_what_the_reader_accepts(accept: str, content_type: str) -> None:
    assert text_of([], accept)[1].startswith(content_type)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, "OK"),
        (Failure(reason_pb2.REASON_MEDIA_NOT_FOUND, ""), "NOT_FOUND"),
        (ZeroDivisionError(), "INTERNAL"),
        (asyncio.CancelledError(), "CANCELLED"),
        (GeneratorExit(), "CANCELLED"),
    ],
)
def test_a_call_counts_once_with_its_code(error: BaseException | None, code: str) -> None:
    service = media_service_pb2.DESCRIPTOR.services_by_name["MediaService"]

    def call(method: str) -> None:
        measured = MeasuredMethod(service.methods_by_name[method], timedelta(0))
        with contextlib.suppress(BaseException), measured.call(Protocol.GRPC, tuple):
            if error is not None:
                raise error

    assert counted(lambda: call("GetMedia")) == {
        f"ingot_calls_total {code} MediaService/GetMedia": 1,
        "ingot_call_duration_seconds_count MediaService/GetMedia": 1,
    }
    assert counted(lambda: call("Download")) == {
        f"ingot_calls_total {code} MediaService/Download": 1
    }


def job(**fields: object) -> Job:
    made = lifecycle.created(Job(kind=job_pb2.JOB_KIND_INGEST, **fields))  # type: ignore[arg-type]
    made.media.source.name = "youtube"
    return made


def ended(change: changes.Change, **fields: object) -> Job:
    made = job(**fields)
    change(made)
    return made


FAILED = changes.failed(Failure(reason_pb2.REASON_BOT_CHECK, "A bot check."))


@pytest.mark.parametrize(
    ("ended_job", "labels"),
    [
        (ended(FAILED), "INGEST BOT_CHECK youtube FAILED"),
        (lifecycle.cancelled(job()), "INGEST CANCELLED youtube CANCELLED"),
        (Job(kind=job_pb2.JOB_KIND_CONVERT, state=job_pb2.JOB_STATE_SUCCEEDED), None),
    ],
)
def test_the_end_of_a_job_counts(ended_job: Job, labels: str | None) -> None:
    expected = labels or "CONVERT  web SUCCEEDED"
    assert counted(lambda: count_end(ended_job)) == {f"ingot_jobs_ended_total {expected}": 1}


def test_the_end_of_a_preview_does_not_count() -> None:
    assert counted(lambda: count_end(Job(kind=lifecycle.PREVIEW))) == {}


def claim(run: int = 1, **fields: object) -> Claim:
    claimed = lifecycle.claimed(job(**fields))
    assert claimed is not None
    return Claim(claimed, "token", run)


def attempt(claimed: Claim) -> None:
    times = AttemptTimes(claimed)
    at_work = lifecycle.copy_of(claimed.job)
    for stage in (job_pb2.JOB_STAGE_DOWNLOADING, job_pb2.JOB_STAGE_PROBING):
        changes.entered(stage)(at_work)
        times.follow(at_work)
        at_work.progress.stage.bytes_done += 100
        times.follow(at_work)
    times.end()
    times.end()


STAGES = {
    f"ingot_job_stage_duration_seconds_count {stage}": 1
    for stage in ("RESOLVING", "DOWNLOADING", "PROBING")
}
FIRST = {
    "ingot_job_dispatch_delay_seconds_count fetch": 1,
    "ingot_job_first_progress_seconds_count fetch": 1,
}


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        (claim(), STAGES | FIRST),
        (claim(run=2), STAGES),
        (claim(parent_job_id="list"), STAGES),
    ],
)
def test_an_attempt_counts_its_stages_and_the_first_one_its_delays(
    claimed: Claim, expected: dict[str, float]
) -> None:
    assert counted(lambda: attempt(claimed)) == expected


@pytest.mark.parametrize(
    ("version", "day"),
    [
        ("2026.01.31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026.1.31.232950", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026.13.1", None),
        ("released", None),
    ],
)
def test_the_name_of_a_version_says_when_it_was_released(
    version: str, day: datetime | None
) -> None:
    assert released_at(version) == day


def test_the_installation_is_told_with_what_is_zero() -> None:
    queue = QueueStatus(kind=job_pb2.JOB_KIND_INGEST, queued=3, running=2)
    queue.oldest_queued_time.FromSeconds(int(datetime.now(UTC).timestamp()) - 60)
    state = InstallationState(
        workers=[WorkerStatus(id="all", runs_all_jobs=True), WorkerStatus(id="c", converts=True)],
        queues=[queue],
        redis_memory={"used_memory": 10, "maxmemory": 0},
        open_breakers={"youtube": OpenBreaker(reason_pb2.REASON_BOT_CHECK, timedelta(0))},
        cookies={"web": CookiesStatus(state=CookiesStatus.STATE_EXPIRED)},
    )
    snapshot: Snapshot = of_installation(state)
    found = scraped(text_of([snapshot], "")[0])

    assert found.value("ingot_jobs", kind="INGEST", state="QUEUED") == 3
    assert found.value("ingot_jobs", kind="INGEST", state="RUNNING") == 2
    assert list(found.values("ingot_jobs", kind="CONVERT")) == [0, 0]
    assert found.value("ingot_queue_oldest_age_seconds", kind="INGEST") >= 59
    assert found.value("ingot_queue_oldest_age_seconds", kind="CONVERT") == 0
    assert found.value("ingot_workers", work="fetch") == 1
    assert found.value("ingot_workers", work="convert") == 2
    assert found.value("ingot_source_breaker_open", source="youtube") == 1
    assert len(list(found.values("ingot_source_breaker_open"))) == len(SOURCES)
    assert found.value("ingot_source_cookies", source="web", state="EXPIRED") == 1
    assert found.value("ingot_source_cookies") == 1


def test_every_metric_of_the_list_can_be_written() -> None:
    values = Values()
    for metric in METRICS:
        _give_value(metric, values)
    found = scraped(text_of([values.snapshot()], "")[0])

    found.assert_listed()
    assert len(found.families) == len(METRICS)


def _give_value(metric: Metric, values: Values) -> None:
    width = len(metric.buckets) + 2 if metric.buckets else 1
    at = values.place((metric.name, *metric.labels), width)
    values.cells[at] = 1
