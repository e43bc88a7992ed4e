"""Runs the measurements that are named, all of them when none is."""

import asyncio
import importlib
import sys

NAMES = (
    *("get_media", "cached_ingest", "ingest_throughput", "worker_memory", "job_cost"),
    *("one_url", "job_watchers", "job_lists", "transfers"),
    *("start_up", "hls", "extraction_overhead", "mp3", "url_to_mp3", "cancel", "stage_times"),
    *("probe_cost", "media_lists", "accepted_call", "lost_worker", "egress_heads"),
    *("redis_commands", "running_jobs", "s3_requests", "idle", "worker_start", "large_ingest"),
    *("load", "comparison", "simulation", "kept_bytes"),
)

for name in sys.argv[1:] or NAMES:
    if name not in NAMES:
        sys.exit(f"bench: there is no {name!r}; there are {', '.join(NAMES)}")
    measurement = importlib.import_module(f"bench.{name}")
    print(f"\n{name}: {(measurement.__doc__ or '').splitlines()[0]}", flush=True)
    asyncio.run(measurement.main())
