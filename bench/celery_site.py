"""The worker of a site that makes MP3s with Celery, yt-dlp and ffmpeg; see comparison.py.

A task runs yt-dlp, which runs ffmpeg, uploads the result and writes `finished` or `failed` into
Redis under the URL. `ended` there is the number of tasks that have ended.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile

import imageio_ffmpeg
from celery import Celery
from minio import Minio
from redis import Redis

BUCKET = os.environ["S3_BUCKET"]
REDIS_URL = os.environ["SITE_REDIS_URL"]
STATUS_SECONDS = 3600

app = Celery("site", broker=os.environ["SITE_BROKER_URL"])
redis = Redis.from_url(REDIS_URL)
s3 = Minio(
    os.environ["S3_ENDPOINT"],
    os.environ["S3_ACCESS_KEY"],
    os.environ["S3_SECRET_KEY"],
    secure=False,
    region="us-east-1",
)


@app.task(name="make_mp3")
def make_mp3(url: str) -> None:
    name = f"celery/{hashlib.sha256(url.encode()).hexdigest()[:32]}.mp3"
    try:
        with tempfile.TemporaryDirectory() as directory:
            subprocess.run(
                [
                    *(sys.executable, "-m", "yt_dlp", "--ignore-config", "--quiet"),
                    *("--no-warnings", "-x", "--audio-format", "mp3", "--audio-quality", "192K"),
                    *("--ffmpeg-location", imageio_ffmpeg.get_ffmpeg_exe()),
                    *("--output", f"{directory}/sound.%(ext)s", url),
                ],
                check=True,
            )
            s3.fput_object(BUCKET, name, f"{directory}/sound.mp3")
    except Exception:
        redis.set(url, "failed", ex=STATUS_SECONDS)
        raise
    else:
        redis.set(url, "finished", ex=STATUS_SECONDS)
    finally:
        redis.incr("ended")
