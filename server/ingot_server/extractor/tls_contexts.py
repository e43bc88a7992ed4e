"""One TLS context for all requests of a process that need the same, with its authorities loaded.

yt-dlp makes a context for each of its HTTP clients, and loading the authorities of the system
takes 30 ms each time. A context that exists before a process forks is in its children, too.
"""

from __future__ import annotations

import functools

import yt_dlp.networking.common as networking


def share() -> None:
    """Have yt-dlp make each context once. Raises AttributeError if it makes them elsewhere."""
    networking.make_ssl_context = functools.cache(networking.make_ssl_context)


def forget() -> None:
    """Make all contexts again, because other authorities count now."""
    # Another version of yt-dlp may have nothing to share.
    if hasattr(networking, "make_ssl_context"):
        getattr(networking.make_ssl_context, "cache_clear", lambda: None)()
