"""The program that runs yt-dlp: one process for each job (see `extractor.py`), exec'd.

    request   {"url": ..., "proxy": ..., ...}: `Request` has all fields
    answer    {"kind": "resolved", ...} or {"kind": "entries", ...}
    request   {"directory": ...}
    answer    {"kind": "progress", "done": ..., "total": ...} any number of times,
              {"kind": "fetched", "path": ..., "side_files": [...]}
    or        {"kind": "failed", ...}, at any point: a `Report` of extraction_failures.py

What a caller or a site says is a value in a dictionary, never an option, a command or a file name.
yt-dlp's own downloaders are the only ones; ffmpeg gets files that are there already, opens no other
one and no network; nothing but ffmpeg and deno can be started, and a socket leads to the guard or
nowhere. `_lock` enforces the last two with an audit hook, which no later code can take out.
"""

from __future__ import annotations

import json
import os
import re
import resource
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

_ARGUMENTS: Final = sys.argv[1:]
if _ARGUMENTS:
    sys.path.insert(0, _ARGUMENTS[0])  # a yt-dlp newer than the installed one

import yt_dlp  # noqa: E402
import yt_dlp.downloader.external  # noqa: E402
import yt_dlp.globals  # noqa: E402
import yt_dlp.utils  # noqa: E402
import yt_dlp.version  # noqa: E402
from yt_dlp.postprocessor.ffmpeg import FFmpegPostProcessor  # noqa: E402

from ingot_server.pipeline import formats  # noqa: E402

_PROGRESS_SECONDS: Final = 0.1
_MAX_TEXT: Final = 100_000
_MAX_ITEMS: Final = 1000
_SIDE_FILE_BYTES: Final = 32 << 20
_SUBTITLE_TYPES: Final = {
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "ttml": "application/ttml+xml",
}
# Containers alone: no playlist and no list of other files can be opened as one of these.
_CONTAINERS: Final = "aac,ac3,avi,eac3,flac,flv,h264,hevc,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,ogg,wav"  # noqa: E501

_FILES_ONLY: Final = ("-protocol_whitelist", "file,pipe", "-format_whitelist", _CONTAINERS)


class LiveStream(Exception):
    """The media is live now."""


class Upcoming(Exception):
    """The media is announced."""


class TooLarge(Exception):
    """More bytes than are taken."""


@dataclass(frozen=True, slots=True)
class Request:
    """One job. Paths and the proxy are the installation's, the rest is the caller's."""

    url: str
    audio_only: bool
    max_height: int | None
    playlist: bool
    max_entries: int
    record_seconds: float
    subtitle_languages: list[str]
    automatic_subtitles: bool
    thumbnail: bool
    proxy: str
    ca_file: str
    cookies_file: str
    plugins: str
    cache: str
    ffmpeg: str
    deno: str
    fragments: int
    timeout: float
    max_bytes: int
    memory_bytes: int


def _note(message: str) -> None:
    """For the worker's log, when this process fails."""
    sys.stderr.write(f"{message}\n")


class Downloader(yt_dlp.YoutubeDL):  # type: ignore[misc] # it has no types
    """yt-dlp, remembering the last request that failed."""

    failed_url = ""
    failed_status = 0
    failed_fields: Mapping[str, str] = {}

    def urlopen(self, req: Any) -> Any:
        try:
            return super().urlopen(req)
        except yt_dlp.networking.exceptions.RequestError as error:
            response = getattr(error, "response", None)
            self.failed_url = str(
                getattr(response, "url", "") or (req if isinstance(req, str) else req.url)
            )
            self.failed_status = getattr(response, "status", 0)
            self.failed_fields = dict(response.headers) if response is not None else {}
            raise


class Quiet:
    """Takes yt-dlp's log: errors come as exceptions, the rest is for nobody."""

    def debug(self, _message: str) -> None: ...
    def info(self, _message: str) -> None: ...
    def warning(self, message: str) -> None:
        _note(message[:500])

    def error(self, message: str) -> None:
        _note(message[:500])


class Progress:
    """All formats' bytes as one number that only grows."""

    def __init__(self, info: Mapping[str, Any], max_bytes: int) -> None:
        self._max = max_bytes
        self._known = {
            str(part.get("format_id")): part.get("filesize") or part.get("filesize_approx")
            for part in formats.taken(info)
        }
        self._done: dict[str, int] = {}
        self._shown = 0
        self._next = 0.0

    def __call__(self, status: Mapping[str, Any]) -> None:
        part = str(status.get("info_dict", {}).get("format_id"))
        done = int(status.get("downloaded_bytes") or 0)
        self._done[part] = max(done, self._done.get(part, 0))
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        if status.get("status") == "finished":
            total = total or done
        if total:
            self._known[part] = total
        received = sum(self._done.values())
        if received > self._max:
            raise TooLarge(f"The media is longer than {self._max} bytes")
        now = time.monotonic()
        if now < self._next and status.get("status") != "finished":
            return
        self._next = now + _PROGRESS_SECONDS
        self._shown = max(self._shown, received)
        sizes = list(self._known.values())
        whole = max(int(sum(size or 0 for size in sizes)), self._shown) if all(sizes) else None
        _tell(kind="progress", done=self._shown, total=whole)


class Job:
    """One URL: resolved, then fetched."""

    def __init__(self, request: Request) -> None:
        self._request = request
        choice = formats.choose(audio_only=request.audio_only, max_height=request.max_height)
        self._info: dict[str, Any] = {}
        if request.plugins:
            yt_dlp.globals.plugin_dirs.value = [request.plugins]
            yt_dlp.globals.all_plugins_loaded.value = False
        self.ydl = Downloader(
            {
                "format": choice.selector,
                "format_sort": list(choice.sort),
                "merge_output_format": formats.MERGED_INTO,
                "proxy": request.proxy,
                "compat_opts": {"no-certifi"},
                "cookiefile": request.cookies_file or None,
                "cachedir": request.cache,
                "ffmpeg_location": request.ffmpeg,
                "js_runtimes": {"deno": {"path": request.deno}},
                "external_downloader": {"default": "native"},
                "hls_prefer_native": True,
                "concurrent_fragment_downloads": request.fragments,
                "skip_unavailable_fragments": False,
                "retries": 3,
                "fragment_retries": 5,
                "extractor_retries": 2,
                "socket_timeout": request.timeout,
                "max_filesize": request.max_bytes,
                "noplaylist": not request.playlist,
                "extract_flat": "in_playlist",
                "playlistend": request.max_entries + 1,
                "nopart": True,
                "continuedl": False,
                "overwrites": True,
                "updatetime": False,
                "usenetrc": False,
                "enable_file_urls": False,
                "logger": Quiet(),
                "noprogress": True,
                "color": "never",
            },
            auto_init=False,
        )
        self.ydl.add_default_info_extractors()

    def resolve(self) -> dict[str, Any]:
        found = self.ydl.extract_info(self._request.url, download=False)
        if found is None:
            raise yt_dlp.utils.UnsupportedError(self._request.url)
        if found.get("_type") in ("playlist", "multi_video"):
            entries = [entry for entry in found.get("entries") or () if entry]
            if len(entries) != 1 or self._request.playlist:
                return _entries(found, entries, self._request.url)
            self.ydl.params["extract_flat"] = False
            found = self.ydl.process_ie_result(
                entries[0], download=False, extra_info={"extractor": found.get("extractor")}
            )
        self._info = found
        status = found.get("live_status")
        if status == "is_upcoming":
            raise Upcoming("The media is announced and not there yet")
        if status == "is_live" or found.get("is_live"):
            raise LiveStream("The media is live now")
        return self._resolved(found)

    def fetch(self, directory: str) -> dict[str, Any]:
        info = self._info
        self.ydl.params["outtmpl"] = {"default": os.path.join(directory, "media.%(ext)s")}  # noqa: PTH118  # noqa: E501
        self.ydl.add_progress_hook(Progress(info, self._request.max_bytes))
        info = dict(info)
        self.ydl.process_info(info)
        path = info.get("filepath") or info.get("_filename") or ""
        if not os.path.isfile(path):  # noqa: PTH113
            raise TooLarge("larger than max-filesize")
        if self._request.audio_only and formats.holds_video(self._info):
            path = self._sound(path, directory)
        return {"kind": "fetched", "path": path, "side_files": list(self._side_files(directory))}

    def _sound(self, path: str, directory: str) -> str:
        """Takes the sound out as it is: into M4A, or Matroska where that cannot hold it."""
        for extension in ("m4a", "mka"):
            target = os.path.join(directory, f"sound.{extension}")  # noqa: PTH118
            try:
                FFmpegPostProcessor(self.ydl).run_ffmpeg(
                    path, target, ["-map", "0:a:0", "-vn", "-c", "copy"]
                )
            except yt_dlp.utils.PostProcessingError:
                Path(target).unlink(missing_ok=True)
                continue
            Path(path).unlink()
            return target
        raise yt_dlp.utils.ExtractorError("The media has no audio of its own", expected=True)

    def _side_files(self, directory: str) -> Iterator[dict[str, Any]]:
        """What was asked for besides; what cannot be had is left out."""
        failures = (yt_dlp.utils.YoutubeDLError, OSError, ValueError)
        for number, (language, automatic, found) in enumerate(self._subtitles()):
            extension = found["ext"] if found.get("ext") in _SUBTITLE_TYPES else "vtt"
            path = Path(directory, f"subtitles-{number}.{extension}")
            try:
                if found.get("data") is not None:
                    path.write_text(str(found["data"]))
                else:
                    self.ydl.params["progress_hooks"] = []
                    self.ydl.dl(str(path), {**found, "ext": extension}, subtitle=True)
            except failures as error:
                _note(f"subtitles in {language}: {error}"[:500])
                continue
            yield _side_file(path, "SUBTITLES", _SUBTITLE_TYPES[extension], language, automatic)
        picture = self._info.get("thumbnail")
        if self._request.thumbnail and picture:
            path = Path(directory, "thumbnail")
            try:
                with self.ydl.urlopen(str(picture)) as answer:
                    content = answer.read(_SIDE_FILE_BYTES)
                path.write_bytes(content)
            except failures as error:
                _note(f"thumbnail: {error}"[:500])
                return
            kind = _picture_type(content)
            if kind:
                yield _side_file(path, "THUMBNAIL", kind, "", automatic=False)

    def _subtitles(self) -> Iterator[tuple[str, bool, dict[str, Any]]]:
        for wanted in self._request.subtitle_languages:
            places = [(False, self._info.get("subtitles"))]
            if self._request.automatic_subtitles:
                places.append((True, self._info.get("automatic_captions")))
            for automatic, languages in places:
                match = _language(wanted, languages or {})
                if match:
                    yield match, automatic, _subtitle(languages[match])  # type: ignore[index]
                    break

    def _resolved(self, info: Mapping[str, Any]) -> dict[str, Any]:
        request = self._request
        parts = formats.taken(info)
        return {
            "kind": "resolved",
            "extractor": _text(info.get("extractor_key") or info.get("extractor")),
            "extractor_id": _text(info.get("id")),
            "title": _text(info.get("title")),
            "description": _text(info.get("description")),
            "tags": [_text(tag) for tag in (info.get("tags") or [])[:_MAX_ITEMS]],
            "uploader": _text(info.get("uploader") or info.get("channel") or info.get("creator")),
            "publish_time": _published(info),
            "duration": _number(info.get("duration")),
            "thumbnail_url": _web(info.get("thumbnail")),
            "page_url": _web(info.get("webpage_url")),
            "chapters": [
                {
                    "title": _text(chapter.get("title")),
                    "start": _number(chapter.get("start_time")) or 0.0,
                    "end": _number(chapter.get("end_time")) or 0.0,
                }
                for chapter in (info.get("chapters") or [])[:_MAX_ITEMS]
            ],
            "is_live": False,
            "size_bytes": formats.size_bytes(info),
            "format_id": "+".join(_text(part.get("format_id")) for part in parts)[:500],
            "format_reason": formats.reason(
                info, audio_only=request.audio_only, max_height=request.max_height
            ),
        }

    def describe(self, error: BaseException) -> dict[str, Any]:
        """What `Report` holds of `error`, and of the request that failed before it."""
        report = describe(error)
        report["version"] = yt_dlp.version.__version__
        moment = self._info.get("release_timestamp")
        if moment:
            report["start_time"] = datetime.fromtimestamp(moment, UTC).isoformat()
        ydl = self.ydl
        report["host"] = urlsplit(ydl.failed_url).hostname or ""
        if "any player response" in report["message"] and ydl.failed_status:
            # YouTube's extractor makes a warning of each request that fails, and then says only this.  # noqa: E501
            report["http_status"] = ydl.failed_status
            report["message"] += f"\nHTTP Error {ydl.failed_status}"
        fields = {name.lower(): value for name, value in ydl.failed_fields.items()}
        networked = re.search(
            r"HTTP Error|unable to download|Tunnel", report["message"], re.IGNORECASE
        )
        if networked and str(ydl.failed_status) in report["message"]:
            report["proxy_status"] = str(fields.get("proxy-status", ""))
            report["retry_after"] = str(fields.get("retry-after", ""))
        if re.search(r"unnel.*\b50\d\b", report["message"]) and not report["proxy_status"]:
            report["host"] = _pool_host(error) or report["host"]
            report["proxy_status"] = _ask_guard(self._request.proxy, report["host"])
        return report


def describe(error: BaseException) -> dict[str, Any]:
    """The class names, messages and HTTP status of an exception and all that led to it."""
    kinds: list[str] = []
    messages: list[str] = []
    status = 0
    for one in _chain(error):
        kinds += [kind.__name__ for kind in type(one).__mro__[:-2] if kind.__name__ not in kinds]
        if str(one) and str(one) not in messages:
            messages.append(str(one)[:2000])
        status = status or int(getattr(one, "status", 0) or 0)
    return {
        "kind": "failed",
        "message": "\n".join(messages)[:8000],
        "kinds": kinds,
        "http_status": status,
        "proxy_status": "",
        "host": "",
        "retry_after": "",
        "start_time": "",
        "version": "",
    }


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting and len(seen) < 20:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        held = getattr(one, "exc_info", None)
        waiting += [
            held[1] if held else None,
            getattr(one, "cause", None),
            one.__cause__ or one.__context__,
        ]
        waiting += [item for item in one.args if isinstance(item, BaseException)]
        waiting.append(getattr(one, "reason", None))


def _pool_host(error: BaseException) -> str:
    """The host of the tunnel that urllib3 could not make."""
    for one in _chain(error):
        host = getattr(getattr(one, "pool", None), "host", "")
        if host:
            return str(host)
    return ""


def _ask_guard(proxy: str, host: str) -> str:
    """Why the guard makes no tunnel to `host`: http.client drops the fields that say so."""
    import base64

    parts = urlsplit(proxy)
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
        return ""
    name = f"[{host}]" if ":" in host else host
    account = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    lines = (
        f"CONNECT {name}:443 HTTP/1.1",
        f"Host: {name}:443",
        f"Proxy-Authorization: Basic {account}",
    )
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=15) as way:
            way.sendall("\r\n".join((*lines, "", "")).encode())
            answer = way.recv(65536).decode("latin-1")
    except OSError:
        return ""
    found = re.search(r"(?im)^proxy-status:\s*(.+?)\r?$", answer)
    return found[1] if found else ""


def _entries(found: Mapping[str, Any], entries: list[Any], asked: str) -> dict[str, Any]:
    urls = []
    for entry in entries:
        flat = str(entry.get("_type", "video")).startswith("url")
        choices = [entry.get("url" if flat else "webpage_url"), entry.get("url")]
        choices += [part.get("url") for part in entry.get("formats") or ()][-1:]
        url = next((one for one in map(_web, choices) if one and one != asked), "")
        if url and url not in urls:
            urls.append(url)
    return {
        "kind": "entries",
        "title": _text(found.get("title")),
        "extractor": _text(found.get("extractor_key") or found.get("extractor")),
        "extractor_id": _text(found.get("id")),
        "urls": urls,
        "total": max(int(found.get("playlist_count") or 0), len(urls)),
    }


def _side_file(
    path: Path, kind: str, content_type: str, language: str, automatic: bool
) -> dict[str, Any]:
    return {
        "path": str(path),
        "kind": kind,
        "content_type": content_type,
        "language": language,
        "automatic": automatic,
    }


def _language(wanted: str, languages: Mapping[str, Any]) -> str:
    """The key that is the language asked for, or else a variant of it; empty: there is none."""
    lower = wanted.lower()
    for match in (
        lambda key: key == lower,
        lambda key: key.startswith(f"{lower}-"),
    ):
        for key in languages:
            if match(str(key).lower().replace("_", "-")) and re.fullmatch(r"[\w-]{1,40}", str(key)):  # type: ignore[no-untyped-call]
                return str(key)
    return ""


def _subtitle(forms: list[dict[str, Any]]) -> dict[str, Any]:
    for extension in _SUBTITLE_TYPES:
        for form in forms:
            if form.get("ext") == extension:
                return form
    return forms[-1]


def _picture_type(content: bytes) -> str:
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if content.startswith(b"\x89PNG\r\n"):
        return "image/png"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    if content[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return ""


def _published(info: Mapping[str, Any]) -> float | None:
    moment = _number(info.get("timestamp")) or _number(info.get("release_timestamp"))
    day = str(info.get("upload_date") or "")
    if moment is None and re.fullmatch(r"\d{8}", day):
        try:
            moment = datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp()
        except ValueError:
            return None
    return moment


def _number(value: object) -> float | None:
    if isinstance(value, (int, float)) and 0 <= value < 1e11:
        return float(value)
    return None


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return text.encode(errors="replace").decode()[:_MAX_TEXT].replace("\0", "")


def _web(value: object) -> str:
    """An address that may be asked; empty for any other scheme."""
    text = _text(value)
    return text if re.match(r"https?://", text, re.IGNORECASE) else ""


def _tell(**message: object) -> None:
    os.write(_OUTPUT, json.dumps(message).encode() + b"\n")


def _contain(request: Request) -> None:
    """Has ffmpeg open nothing but the containers it is given, and limits memory.

    Deno's is not limited: V8 reserves far more address space than it uses.
    """
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, hard))
    begin = yt_dlp.utils.Popen.__init__

    def start(self: Any, args: Any, *rest: Any, **named: Any) -> None:
        if args and args[0] == request.deno:
            resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        if args and args[0] == request.ffmpeg:
            args = [
                part for one in args for part in ((*_FILES_ONLY, one) if one == "-i" else (one,))
            ]
        try:
            begin(self, args, *rest, **named)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (request.memory_bytes, hard))

    yt_dlp.utils.Popen.__init__ = start


def _lock(request: Request) -> None:
    """Nothing but ffmpeg and deno is started, and nothing but the guard is dialled."""
    guard = urlsplit(request.proxy)
    programs = {request.ffmpeg, request.deno}

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen":
            program, arguments = values[0], list(map(str, values[1]))
            reads = "-i" in arguments
            if program not in programs or (reads and "-format_whitelist" not in arguments):
                raise PermissionError(f"{os.fsdecode(program)} is not run like this")
        elif event in {"os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn"}:
            raise PermissionError(f"{event} is not allowed")
        elif event == "socket.connect":
            address = values[1]
            if isinstance(address, tuple) and address[:2] == (guard.hostname, guard.port):
                return
            local = isinstance(address, tuple) and address[0] in {"127.0.0.1", "::1"}
            if not (request.plugins and local):  # A provider may have a server of its own here.
                raise PermissionError("Nothing is reached but through the egress guard")

    sys.addaudithook(watch)


def _refuse_network(*_arguments: Any, **_named: Any) -> bool:
    raise yt_dlp.utils.DownloadError("This format needs a downloader that is not allowed")


def _trust(request: Request) -> None:
    """The system's authorities and the installation's, in one file that OpenSSL reads."""
    if not request.ca_file:
        return
    import ssl

    system = ssl.get_default_verify_paths().cafile
    texts = [Path(file).read_text() for file in (system, request.ca_file) if file]
    target = Path(request.cache, f"authorities-{os.getpid()}.pem")
    target.write_text("\n".join(texts))
    os.environ["SSL_CERT_FILE"] = str(target)


def main() -> None:
    """Serves one job, then ends."""
    yt_dlp.globals.plugin_dirs.value = []
    yt_dlp.downloader.external.ExternalFD.real_download = _refuse_network
    yt_dlp.downloader.external.FFmpegFD.real_download = _refuse_network
    yt_dlp.YoutubeDL({"quiet": True, "logger": Quiet()}).close()  # what is imported late is now
    line = sys.stdin.buffer.readline()
    if not line:
        return
    request = Request(**json.loads(line))
    os.chdir(request.cache)
    os.environ.update(HOME=request.cache, TMPDIR=request.cache, DENO_DIR=request.cache)
    job: Job | None = None
    try:
        _trust(request)
        job = Job(request)
        _contain(request)
        _lock(request)
        _tell(**job.resolve())
        line = sys.stdin.buffer.readline()
        if line:
            _tell(**job.fetch(json.loads(line)["directory"]))
    except MemoryError:
        os._exit(70)
    except Exception as error:
        _tell(**(job.describe(error) if job else describe(error)))


if __name__ == "__main__":
    # Standard output is the answer: what else prints goes to standard error.
    _OUTPUT: Final = os.dup(1)
    os.dup2(2, 1)
    main()
    os._exit(0)
