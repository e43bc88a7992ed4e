"""How much of a job's time each stage takes, which is where the weights of its fraction come from.

The stages of each job are timed as a watcher sees them, and the medians of several runs are printed
in percent of the whole, next to the parts that `ingot_server/jobs/fraction.py` gives them. The last
lines compare an ingest with the conversion of its result to MP3.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from bench.clips import clip, film, recording, segments
from bench.origin import origin
from bench.site import site
from ingot import Client, JobStage, Recipe
from ingot.job import IngestJob
from ingot_server.jobs import fraction
from ingot_server.jobs.fraction import Stages
from tests.installation import installation

RUNS = 3
RATE = 20 * 1000 * 1000
MINUTES = 5
SEGMENTS, SEGMENT_BYTES = 100, 500_000
MP3 = Recipe(mp3=Recipe.Mp3())

Start = Callable[[int], Awaitable[IngestJob]]
Seconds = Mapping[JobStage.ValueType, float]


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        small = await clip(folder, 100_000)
        whole = await film(folder, MINUTES, video_kbps=2500)
        sound = await recording(folder, 2 * MINUTES)
        hls = await segments(folder, SEGMENTS, SEGMENT_BYTES)
        with installation(folder / "data", workers="1") as ingot:
            async with Client(ingot.grpc_address) as client:
                async with origin(small) as address:
                    await show("file of 100 KB", fraction.FILE, ingests(client, address))
                async with origin(whole, bytes_per_second=RATE) as address:
                    size = f"file of {whole.stat().st_size / 1e6:.0f} MB at {RATE / 1e6:.0f} MB/s"
                    ingest = await show(size, fraction.FILE, ingests(client, address))
                async with site(hls) as address:
                    start = ingests(client, address, "list.m3u8?run={}")
                    await show(f"HLS of {SEGMENTS} segments", fraction.EXTRACTION, start)
                async with origin(sound) as address:
                    start = conversions(client, address, "sound")
                    await show(f"{2 * MINUTES} minutes to MP3", fraction.CONVERSION, start)
                async with origin(whole) as address:
                    start = conversions(client, address, "film")
                    name = f"{MINUTES} minutes of film to MP3"
                    conversion = await show(name, fraction.CONVERSION, start)
        share = ingest / (ingest + conversion)
        part = fraction.workflow_fraction(1, 0, count=1)
        print(f"  ingest {ingest:.2f} s, conversion {conversion:.2f} s: {share:.0%} ({part:.0%})")


def ingests(client: Client, address: str, name: str = "{}.mp4") -> Start:
    """Return what starts the ingest of a file that was not stored before."""

    async def start(run: int) -> IngestJob:
        return await client.ingest_video(f"{address}/{name.format(run)}")

    return start


def conversions(client: Client, address: str, name: str) -> Start:
    """Return what stores a file under that name, and starts its conversion to MP3."""

    async def start(run: int) -> IngestJob:
        media = await (await client.ingest_video(f"{address}/{name}-{run}.mp4"))
        return await client.convert(media.id, MP3)

    return start


async def show(name: str, stages: Stages, start: Start) -> float:
    """Print the median share of each stage, and return the median of the whole in seconds."""
    runs = [await times(await start(run)) for run in range(RUNS)]
    seconds = {
        stage: statistics.median(run.get(stage, 0.0) for run in runs) for stage in stages.ranges
    }
    total = sum(seconds.values())
    shares = ", ".join(
        f"{JobStage.Name(stage).removeprefix('JOB_STAGE_').lower()} "
        f"{seconds[stage] / total:.1%} ({end - begin:.1%})"
        for stage, (begin, end) in stages.ranges.items()
    )
    print(f"  {name}, {total:.2f} s: {shares}", flush=True)
    return total


async def times(job: IngestJob) -> Seconds:
    """Return how long each stage of a job took, from the moment that a worker took it."""
    seconds: dict[JobStage.ValueType, float] = defaultdict(float)
    stage, since = JobStage.JOB_STAGE_UNSPECIFIED, time.perf_counter()
    async for update in job:
        if update.stage != stage or job.done:
            now = time.perf_counter()
            seconds[stage] += now - since
            stage, since = update.stage, now
    await job
    return seconds
