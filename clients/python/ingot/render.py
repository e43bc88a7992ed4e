"""Messages as text for people: tables, sizes, durations.

Titles and URLs come from strangers, so control characters are replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from ingot.enums import name_of
from ingot.v1.job_pb2 import Job, JobStage, JobState, JobWaiting
from ingot.v1.media_pb2 import AudioStream, Media, Section, SideFile, VideoStream
from ingot.v1.reason_pb2 import Reason
from ingot.v1.recipe_pb2 import Recipe
from ingot.v1.source_service_pb2 import CookiesStatus, SourceStatus

JOB_COLUMNS: Final = ("id", "state", "progress", "created", "name")
MEDIA_COLUMNS: Final = ("id", "stored", "duration", "size", "type", "title", "url")
STATES: Final = (
    JobState.JOB_STATE_RUNNING,
    JobState.JOB_STATE_QUEUED,
    JobState.JOB_STATE_SUCCEEDED,
    JobState.JOB_STATE_FAILED,
    JobState.JOB_STATE_CANCELLED,
)
"""The states of jobs, in the order in which their counts are shown."""
SOURCE_COLUMNS: Final = ("source", "health", "limits", "uses", "accepts")
_NOT_EXPIRED: Final = (CookiesStatus.STATE_VALID, CookiesStatus.STATE_EXPIRING)


def printable(text: str) -> str:
    """Return `text` on one line, with control characters replaced."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in " ".join(text.split())
    )


def size(size_bytes: float) -> str:
    """Format a number of bytes, such as `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.4g} TB"


def duration(seconds: float) -> str:
    """Format a duration, such as `1:02:03`, or `3.2 s` if it is less than a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def state(job: Job) -> str:
    """Return the state or stage of a job, and its attempt if that is not the first."""
    if not job.state:
        return ""  # with --validate-only there is no job
    name = name_of(JobState, job.state).lower()
    if job.state == JobState.JOB_STATE_RUNNING and job.stage:
        name = name_of(JobStage, job.stage).lower()
    if job.cached:
        name += " (already stored)"
    return f"{name} (attempt {job.attempt})" if job.attempt > 1 else name


def waiting(waiting: JobWaiting) -> str:
    """Format what a job waits for, such as `waits for example.com, 3 jobs ahead, until 12:03:00`.

    Empty if the job waits only for a worker, like every queued job, or does not wait.
    """
    what = _causes(waiting).get(waiting.cause)
    if what is None:
        return ""
    ahead = waiting.jobs_ahead
    moment = waiting.end_time.ToDatetime(UTC).astimezone()
    parts = [
        f"waits for {what}",
        f"{ahead} {'job' if ahead == 1 else 'jobs'} ahead" if ahead else "",
        f"until {moment:%H:%M:%S}" if waiting.HasField("end_time") else "",
    ]
    return ", ".join(filter(None, parts))


def _causes(waiting: JobWaiting) -> dict[JobWaiting.Cause.ValueType, str]:
    reason = name_of(Reason, waiting.reason).lower().replace("_", " ")
    return {
        JobWaiting.CAUSE_RETRY: "its next attempt",
        JobWaiting.CAUSE_SCRATCH_SPACE: "scratch space on the server",
        JobWaiting.CAUSE_SOURCE_RATE_LIMIT: waiting.source,
        JobWaiting.CAUSE_SOURCE_CONCURRENCY_LIMIT: waiting.source,
        JobWaiting.CAUSE_SOURCE_BLOCKED: f"{waiting.source}, which refuses the server ({reason})",
        JobWaiting.CAUSE_HOST_LIMIT: waiting.host,
        JobWaiting.CAUSE_SAME_MEDIA: f"job {waiting.job_id}, which makes the same media item",
        JobWaiting.CAUSE_CONVERSION_LIMIT: "other conversions",
        JobWaiting.CAUSE_QUOTA: "the next day, because you have received enough today",
        JobWaiting.CAUSE_CALLER_LIMIT: "another one of your jobs",
    }


def counts(counts: Mapping[JobState.ValueType, int], bytes_per_second: float) -> str:
    """Format how many jobs are in each state, and their rate: `2 running, ..., 3 MB/s`."""
    parts = [f"{counts.get(each, 0)} {name_of(JobState, each).lower()}" for each in STATES]
    return ", ".join([*parts, f"{size(bytes_per_second)}/s"])


def job_row(job: Job) -> tuple[str, ...]:
    """Return the row of a job for JOB_COLUMNS."""
    progress_text = ""
    if job.state == JobState.JOB_STATE_RUNNING and job.HasField("progress"):
        progress_text = f"{job.progress.fraction:.0%}"
    recipes = ", ".join(recipe(each) for each in job.recipes)
    name = job.display_name or job.url
    activity = ", ".join(filter(None, [state(job), waiting(job.waiting)]))
    shown = f"{name} ({recipes})" if recipes else name
    return (job.id, activity, progress_text, local_time(job.create_time), shown)


def media_row(media: Media) -> tuple[str, ...]:
    """Return the row of a media item for MEDIA_COLUMNS."""
    return (
        media.id,
        local_time(media.create_time),
        duration(media.duration.ToTimedelta().total_seconds()),
        size(media.blob.size_bytes),
        media.blob.content_type,
        media.title,
        media.url,
    )


def source_row(source: SourceStatus) -> tuple[str, ...]:
    """Return the row of a source for SOURCE_COLUMNS."""
    health = name_of(SourceStatus.Health, source.health).lower()
    health = health.replace("_", " ")
    if source.health == SourceStatus.HEALTH_BLOCKED:
        reason = name_of(Reason, source.reason).lower().replace("_", " ")
        health = f"{health} ({reason}), next attempt {local_time(source.retry_time)}"
    limits = []
    if source.rate:
        limits.append(f"{source.rate} per {_period(source.rate_period.seconds)}")
    if source.max_concurrency:
        limits.append(f"{source.max_concurrency} at once")
    uses = [_cookies(source)] if source.has_cookies else []
    if source.has_proxy:
        uses.append("proxy")
    if source.extractor_version:
        uses.append(f"yt-dlp {source.extractor_version}")
    return (source.name, health, ", ".join(limits), ", ".join(uses), " ".join(source.accepts))


def _cookies(source: SourceStatus) -> str:
    if not source.HasField("cookies"):
        return "cookies"  # a server that does not tell their state
    state = name_of(CookiesStatus.State, source.cookies.state).lower()
    until = source.cookies.HasField("expire_time")
    if until and source.cookies.state in _NOT_EXPIRED:
        state = f"{state} until {local_time(source.cookies.expire_time)}"
    return f"cookies ({state})"


def _period(seconds: int) -> str:
    names = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}
    return names.get(seconds, f"{seconds} s")


def table(rows: Iterable[Sequence[str]]) -> str:
    """Format rows as a table whose columns are as wide as their cells, except the last one."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    widths[-1:] = [0]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def media_table(media: Media) -> str:
    """Format the details of a media item, one per line."""
    return table(media_details(media))


def media_details(media: Media) -> list[tuple[str, str]]:
    """Return the name and the value of each detail of a media item that has a value."""
    rows = [
        ("media", media.id),
        ("title", media.title),
        ("url", media.url),
        ("duration", duration(media.duration.ToTimedelta().total_seconds())),
        ("section", _section(media.section) if media.HasField("section") else ""),
        ("size", f"{size(media.blob.size_bytes)} ({media.blob.size_bytes} bytes)"),
        ("type", media.blob.content_type),
        *(("video", _video(stream)) for stream in media.video),
        *(("audio", _audio(stream)) for stream in media.audio),
        ("uploader", media.uploader),
        ("recipe", recipe(media.recipe) if media.HasField("recipe") else ""),
        ("converted from", media.derived_from_media_id),
        ("chapters", str(len(media.chapters) or "")),
        *((_side_file_kind(side), _side_file(side)) for side in media.side_files),
        ("labels", _labels(media.labels.items())),
        ("sha256", media.blob.sha256),
        ("stored", local_time(media.create_time)),
    ]
    return [row for row in rows if row[1]]


def job_table(job: Job) -> str:
    """Format the details of a job, one per line."""
    rows = [
        ("job", job.id),
        ("state", state(job)),
        ("name", job.display_name),
        ("url", job.url),
        ("media", job.media.id),
        *(("recipe", recipe(each)) for each in job.recipes),
        ("entries", entries(job)),
        ("progress", _progress(job)),
        ("waiting", waiting(job.waiting)),
        ("error", job.error.message),
        ("last attempt", job.last_attempt_error.message),
        ("labels", _labels(job.labels.items())),
        ("created", local_time(job.create_time)),
        ("ended", local_time(job.end_time)),
    ]
    return table(row for row in rows if row[1])


def recipe(recipe: Recipe) -> str:
    """Format a recipe on one line, such as `mp3, bitrate kbps 192, start 1:30`."""
    name: str = recipe.WhichOneof("format") or ""
    parts = [name]
    for field, value in getattr(recipe, name).ListFields() if name else ():
        if field.name == "origin":
            parts.append(f"origin {name_of(Recipe.Transcript.Origin, value).lower()}")
        elif field.name == "encoding" and name == "image":
            parts[0] = name_of(Recipe.Image.Encoding, value).lower()
        elif field.name == "encoding":
            parts[0] += "-json" if value == Recipe.Transcript.ENCODING_JSON else ""
        else:
            shown = "" if value is True else f" {value}"
            parts.append(field.name.replace("_", " ") + shown)
    for name in ("start", "end"):
        if recipe.HasField(f"{name}_offset"):  # type: ignore[arg-type] # a field's name
            offset = getattr(recipe, f"{name}_offset").ToTimedelta()
            parts.append(f"{name} {duration(offset.total_seconds())}")
    return ", ".join(parts)


def converts_one_item(job: Job) -> bool:
    """Return whether a job converts one media item, so that its parts are not shown.

    A playlist with recipes is not such a job: each of its entries is.
    """
    return bool(job.recipes) and not job.options.playlist


def entries(job: Job) -> str:
    """Format the counts of a playlist, such as `57 of 60 stored, 3 failed`; else empty."""
    if not job.HasField("children") or converts_one_item(job):
        return ""
    children = job.children
    cached = f" ({children.cached} already)" if children.cached else ""
    failed = f", {children.failed} failed" if children.failed else ""
    cancelled = f", {children.cancelled} cancelled" if children.cancelled else ""
    return f"{children.succeeded} of {children.total} stored{cached}{failed}{cancelled}"


def _progress(job: Job) -> str:
    if job.state != JobState.JOB_STATE_RUNNING or not job.HasField("progress"):
        return ""
    stage = job.progress.stage
    parts = [f"{job.progress.fraction:.0%}"]
    if stage.bytes_done:
        total = f" of {size(stage.bytes_total)}" if stage.HasField("bytes_total") else ""
        parts.append(f"{size(stage.bytes_done)}{total}")
    if stage.bytes_per_second:
        parts.append(f"{size(stage.bytes_per_second)}/s")
    return ", ".join(parts)


def _section(section: Section) -> str:
    start, end = section.start_offset.ToTimedelta(), section.end_offset.ToTimedelta()
    return f"from {duration(start.total_seconds())} to {duration(end.total_seconds())}"


def _video(stream: VideoStream) -> str:
    rate = stream.frame_rate
    frames = f", {rate.numerator / rate.denominator:.4g} frames/s" if rate.denominator else ""
    rotation = f", rotated by {stream.rotation} degrees" if stream.rotation else ""
    return f"{stream.codec}, {stream.width}x{stream.height}{frames}{rotation}"


def _audio(stream: AudioStream) -> str:
    channels = "1 channel" if stream.channels == 1 else f"{stream.channels} channels"
    return f"{stream.codec}, {stream.sample_rate_hz / 1000:g} kHz, {channels}"


def _side_file_kind(side: SideFile) -> str:
    return name_of(SideFile.Kind, side.kind).lower()


def _side_file(side: SideFile) -> str:
    language = f"{side.language}, " if side.language else ""
    automatic = "automatic, " if side.automatic else ""
    converted = "converted, " if side.converted else ""
    return f"{language}{automatic}{converted}{side.content_type}, {side.url}"


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(labels))


def local_time(moment: Timestamp) -> str:
    """Format a time in the local time zone; empty if it is unset."""
    if not moment.seconds:
        return ""
    return moment.ToDatetime(UTC).astimezone().isoformat(" ", "seconds")
