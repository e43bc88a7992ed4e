"""A service that downloads a URL, then uploads the file, then writes a row; see comparison.py.

`POST /` with {"url": ...} is answered when the video is in the bucket and its row is written.
yt-dlp runs in threads of the service, so its imports cost nothing here. What was requested before
is fetched again.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from aiohttp import web
from minio import Minio
from yt_dlp import YoutubeDL

THREADS = 16
BUCKET = os.environ["S3_BUCKET"]
DATABASE = os.environ["CRUD_DATABASE"]
SCHEMA = "CREATE TABLE videos (url TEXT, object TEXT, title TEXT, bytes INTEGER)"

s3 = Minio(
    os.environ["S3_ENDPOINT"],
    os.environ["S3_ACCESS_KEY"],
    os.environ["S3_SECRET_KEY"],
    secure=False,
    region="us-east-1",
)


def store(url: str) -> dict[str, object]:
    name = f"crud/{hashlib.sha256(url.encode()).hexdigest()[:32]}.mp4"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "video.mp4")
        options = {"outtmpl": str(path), "quiet": True, "noprogress": True, "no_warnings": True}
        with YoutubeDL(options) as youtube_dl:
            found = youtube_dl.extract_info(url)
        s3.fput_object(BUCKET, name, str(path))
        row = (url, name, found["title"], path.stat().st_size)
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("INSERT INTO videos VALUES (?, ?, ?, ?)", row)
    return {"object": name}


async def serve() -> None:
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute(SCHEMA)
    threads = ThreadPoolExecutor(THREADS)

    async def create(request: web.Request) -> web.Response:
        url = (await request.json())["url"]
        loop = asyncio.get_running_loop()
        return web.json_response(await loop.run_in_executor(threads, store, url))

    app = web.Application()
    app.router.add_post("/", create)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
