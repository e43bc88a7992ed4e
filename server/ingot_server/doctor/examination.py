"""All checks, in the order in which they are shown; one line for each finding."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from ingot_server.api.authentication import Authentication
from ingot_server.config import Settings
from ingot_server.doctor.certificate import check_certificate
from ingot_server.doctor.clocks import check_redis_clock, check_s3_clock
from ingot_server.doctor.cookies import check_cookies
from ingot_server.doctor.guard import check_egress
from ingot_server.doctor.machine import (
    check_confinement,
    check_extractor,
    check_ffmpeg,
    check_scratch,
)
from ingot_server.doctor.named_files import check_named_files
from ingot_server.doctor.transcription import check_transcription
from ingot_server.errors import Failure
from ingot_server.findings import Finding, Level, ok, problem, warning
from ingot_server.jobs.queue import check_broker
from ingot_server.library.bucket_probe import check_versioning, probe_bucket
from ingot_server.library.s3 import S3
from ingot_server.redis import connect
from ingot_server.redis_checks import check_redis
from ingot_server.setting_values import SettingError

Check = Callable[[Settings], Awaitable[Sequence[Finding]]]


async def examine(
    settings: Settings,
    *,
    unknown: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Return what all checks find. `unknown` are the variables that are not settings.

    `renamed` are those with a former name of a setting, each with its present name.

    It writes to Redis and S3 what every process writes when it starts, and removes it. It does not
    create the bucket.
    """
    checks = (
        *(check_certificate, check_cookies),
        *(_check_redis, _check_queue, _check_s3, check_machine),
    )
    found = await asyncio.gather(*(_guarded(check, settings) for check in checks))
    of_settings = check_settings(settings, unknown, renamed or {})
    return [*of_settings, *(each for part in found for each in part)]


def check_settings(
    settings: Settings, unknown: Sequence[str], renamed: Mapping[str, str]
) -> list[Finding]:
    """Return what is wrong with the settings that could be read."""
    findings = [
        problem("settings", f"{name} is now called {now}.", "Rename it.", stops_start=True)
        for name, now in renamed.items()
    ]
    findings += [
        warning("settings", f"{name} is not a setting of Ingot.", "See docs/settings.md.")
        for name in unknown
    ]
    try:
        check_named_files(settings)
        Authentication(settings)
    except SettingError as error:
        findings.append(unreadable_settings(error))
    return findings or [ok("settings", "All settings can be used.")]


def unreadable_settings(error: SettingError) -> Finding:
    """Return the finding that a setting cannot be used."""
    return problem("settings", str(error), "")


async def check_machine(settings: Settings) -> list[Finding]:
    """Check what a worker needs on this machine."""
    return [
        await check_ffmpeg(settings),
        *check_extractor(settings),
        *check_scratch(settings),
        *check_confinement(),
        *await check_egress(settings),
        *await check_transcription(settings),
    ]


async def _check_redis(settings: Settings) -> Sequence[Finding]:
    async with connect(settings) as redis:
        try:
            return [*await check_redis(redis), await check_redis_clock(redis)]
        except Failure as failure:
            return [_unreachable_redis(failure)]


def _unreachable_redis(failure: Failure) -> Finding:
    remedy = "Check that it runs, and INGOT_REDIS_URL."
    if "certificate verify failed" in failure.message:
        remedy = "For an authority of your own, add ?ssl_ca_certs=FILE.pem to INGOT_REDIS_URL."
    return problem("Redis", f"{failure.message.removesuffix('.')}.", remedy)


async def _check_queue(settings: Settings) -> Sequence[Finding]:
    if not settings.broker_url:
        return ()
    try:
        await asyncio.to_thread(check_broker, settings)
    except Failure as failure:
        remedy = "Check that the broker runs, and INGOT_BROKER_URL."
        return [problem("broker", f"{failure.message.removesuffix('.')}.", remedy)]
    return [ok("broker", "The broker accepts connections.")]


async def _check_s3(settings: Settings) -> Sequence[Finding]:
    s3 = S3(settings)
    try:
        clock = await s3.small.run(lambda: check_s3_clock(s3, settings))
        if not await s3.small.run(lambda: s3.small.client.bucket_exists(s3.bucket)):
            return [
                clock,
                warning(
                    "S3",
                    f"The server at {s3.endpoint} responds; the bucket {s3.bucket} does not exist.",
                    "Start Ingot once, which creates it, and run this again.",
                ),
            ]
        probe = await s3.small.run(lambda: probe_bucket(s3))
        return [
            ok("S3", f"The server at {s3.endpoint} responds, with the bucket {s3.bucket}."),
            *probe.findings,
            await s3.small.run(lambda: check_versioning(s3)),
            clock,
        ]
    except Failure as failure:
        return [problem("S3", failure.message, "")]
    finally:
        await s3.close()


async def _guarded(check: Check, settings: Settings) -> Sequence[Finding]:
    try:
        return await check(settings)
    except SettingError as error:
        return [unreadable_settings(error)]


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 if there is a problem, else 0."""
    return int(any(each.level is Level.PROBLEM for each in findings))


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return the findings for people, one line each."""
    width = max(len(each.check) for each in findings)
    return [
        f"{each.level:<8} {each.check:<{width}}  {each.message} {each.remedy}".rstrip()
        for each in findings
    ]


def json_lines(findings: Sequence[Finding]) -> list[str]:
    """Return the findings for programs, one JSON object each."""
    return [
        json.dumps(
            {
                "check": each.check,
                "level": each.level.value,
                "message": each.message,
                "remedy": each.remedy,
            }
        )
        for each in findings
    ]
