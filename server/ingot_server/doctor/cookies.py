"""Whether the cookies of sources can still be used."""

from __future__ import annotations

from collections.abc import Sequence

from ingot_server.config import Settings
from ingot_server.cookie_health import CookieHealth, cookie_findings, read_or_error, status_of
from ingot_server.errors import Failure
from ingot_server.findings import Finding, ok
from ingot_server.redis import connect
from ingot_server.setting_values import SettingError
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES


async def check_cookies(settings: Settings) -> Sequence[Finding]:
    """Return what is known of all cookies; nothing if no source has some.

    Without Redis, that is what their files say.
    """
    try:
        sources = read_source_settings(settings, [source.name for source in SOURCES])
    except SettingError:
        return []  # which the check of the settings reports
    files = {name: own.cookies for name, own in sources.items() if own.cookies}
    if not files:
        return []
    async with connect(settings) as redis:
        try:
            found = await CookieHealth(redis, sources).read()
        except Failure:
            found = {name: status_of(name, read_or_error(path)) for name, path in files.items()}
    wrong = list(cookie_findings(found))
    return wrong or [ok("cookies", f"The cookies of {', '.join(found)} can be used.")]
