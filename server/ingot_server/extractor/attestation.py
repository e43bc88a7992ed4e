"""YouTube's attestation (BotGuard), run by Deno from the bundled attestation.js.

Deno gets no permission: all requests are made by whoever holds an `Attestation`. What it runs is a
script of Google's, so its answers are checked. docs/extractor.md describes the whole.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any, Final, Self

import yt_dlp.utils

_SCRIPT: Final = Path(__file__).with_name("attestation.js")
_OPTIONS: Final = (
    *("run", "--no-remote", "--no-npm", "--no-lock", "--no-config", "--no-prompt"),
    *("--no-code-cache", "--node-modules-dir=none"),
)
_SECONDS: Final = 60.0
_LONGEST_ANSWER: Final = 1 << 20
_TOKEN: Final = re.compile(r"[A-Za-z0-9_=-]{8,4096}", re.ASCII)


class AttestationError(Exception):
    """The attestation failed; the message says at what."""


class Attestation:
    """One run of BotGuard, from which tokens can be minted: `respond`, `accept`, then `mint`.

    It ends at `close`, or a minute after its start.
    """

    def __init__(self, deno: str) -> None:
        # What it writes to standard error is of no use, and may be anything.
        self._process = yt_dlp.utils.Popen(
            [deno, *_OPTIONS, str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._deadline = threading.Timer(_SECONDS, self._process.kill)
        self._deadline.daemon = True
        self._deadline.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def respond(self, *, interpreter: str, program: str, global_name: str, user_agent: str) -> str:
        """Return the response to a challenge. Raises AttestationError."""
        return self._ask(
            "response",
            interpreter=interpreter,
            program=program,
            global_name=global_name,
            user_agent=user_agent,
        )

    def accept(self, integrity_token: str) -> None:
        """Take what Google's server gave for the response. Raises AttestationError."""
        self._ask("", integrity_token=integrity_token)

    def mint(self, binding: str) -> str:
        """Return the token of a video or a visitor. Raises AttestationError."""
        token = self._ask("token", binding=binding)
        if not _TOKEN.fullmatch(token):
            raise AttestationError("BotGuard minted something that is not a token.")
        return token

    def close(self) -> None:
        """End it. Safe to repeat."""
        self._deadline.cancel()
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()

    def _ask(self, wanted: str, **message: str) -> str:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            answer: Any = json.loads(self._process.stdout.readline(_LONGEST_ANSWER))
        except (OSError, ValueError) as error:
            raise AttestationError("BotGuard ended, or took too long.") from error
        found = answer.get(wanted, "") if isinstance(answer, dict) else None
        if not isinstance(found, str) or "error" in answer or (wanted and not found):
            raise AttestationError(f"BotGuard failed: {str(answer)[:300]}")
        return found
