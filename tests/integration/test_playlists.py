"""Lists of media: real stores, real workers, entries that a real web server has.

The entries of a list come from a fake, `tests/playlist_worker.py`, instead of yt-dlp.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from datetime import timedelta

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import ChildSummary, Job
from ingot_server.app import running
from ingot_server.errors import Failure
from ingot_server.jobs.lease import hold
from ingot_server.jobs.outcomes import JobCancelled, LeaseLost, NothingToDo
from ingot_server.jobs.placement import Work
from ingot_server.jobs.records import Records
from tests.ingot_command import run_command, run_on_terminal
from tests.origin import Page
from tests.playlist_harness import PlaylistHarness, ingot, worker
from tests.refusals import reason_of

pytestmark = pytest.mark.any_stores

__all__ = ["ingot"]


@pytest.mark.slow
async def test_a_list_with_bad_entries_ends_with_the_good_ones(ingot: PlaylistHarness) -> None:
    good = ingot.entries(24)
    gone = ingot.origin.url("/gone.mp4")
    page = ingot.origin.serve("/page.mp4", Page(b"<html>", content_type="text/html"))
    internal = "s3://bucket/secret.mp4"
    urls = [*good[:8], gone, *good[8:16], page, *good[16:], internal, good[0]]
    with worker(ingot):
        stored = [await ingot.make(url) for url in good[:3]]
        for job in stored:
            assert (await ingot.ended(job.id))[-1].state == job_pb2.JOB_STATE_SUCCEEDED
        slow = ingot.origin.pages["/entry-5.mp4"]
        slow.gate = asyncio.Event()
        shared = await ingot.make(good[5])

        parent = await ingot.make(ingot.serve_list("good.list", urls), labels={"team": "news"})
        waiting = asyncio.create_task(ingot.ended(parent.id))
        await asyncio.sleep(3)
        assert not waiting.done()
        slow.gate.set()
        updates = await waiting

    parent = updates[-1]
    assert parent.state == job_pb2.JOB_STATE_SUCCEEDED
    assert parent.children == ChildSummary(total=27, succeeded=24, failed=3, cached=3)
    assert parent.progress.fraction == 1
    assert parent.progress.stage.bytes_done == 21 * len(ingot.tiny)
    assert parent.media.title == "A list"
    assert not parent.cached

    children = await ingot.children(parent)
    assert len(children) == 27
    assert [child.url for child in children] == urls[:27]
    assert {reason_of(child) for child in children if child.HasField("error")} == {
        reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
        reason_pb2.REASON_NOT_MEDIA,
        reason_pb2.REASON_UNSUPPORTED_URL,
    }
    asked = {number: len(ingot.origin.gets(f"/entry-{number}.mp4")) for number in range(24)}
    assert set(asked.values()) == {1}, asked
    assert children[5].id == shared.id
    assert not children[5].parent_job_id
    assert all(
        child.parent_job_id == parent.id and child.labels == {"team": "news"}
        for child in children
        if child.id != shared.id
    )

    revisions = [update.revision for update in updates]
    assert revisions == sorted(set(revisions))
    rolled_up = [update for update in updates if update.HasField("children")]
    ends = [update.children.succeeded + update.children.failed for update in rolled_up]
    assert ends == sorted(ends)
    assert len({update.progress.fraction for update in rolled_up}) > 2
    length = (parent.end_time.ToDatetime() - parent.start_time.ToDatetime()).total_seconds()
    assert len(rolled_up) <= 5 * length + 3

    parent_lives = await ingot.redis.pttl(f"ingot:job:{parent.id}")
    for child in children:
        assert await ingot.redis.pttl(f"ingot:job:{child.id}") > parent_lives > 0


async def test_an_entry_that_is_not_a_url_fails_alone(ingot: PlaylistHarness) -> None:
    [good] = ingot.entries(1)
    parent = await ingot.make(ingot.serve_list("some.list", []), send=False)
    await ingot.expand(parent, [good, "http://[/clip.mp4"])
    fine, broken = await ingot.children(await ingot.read(parent.id))
    assert fine.state == job_pb2.JOB_STATE_QUEUED
    assert broken.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(broken) == reason_pb2.REASON_INVALID_REQUEST


@pytest.mark.slow
async def test_a_worker_killed_while_it_makes_the_children_costs_none(
    ingot: PlaylistHarness,
) -> None:
    urls = ingot.entries(40)
    parent = await ingot.make(ingot.serve_list("all.deadly.list", urls))
    with worker(ingot) as killed:
        await asyncio.to_thread(killed.wait)
        made = await ingot.records.list(limit=100)
        assert 1 < len(made) < 40
        assert (await ingot.read(parent.id)).state == job_pb2.JOB_STATE_RUNNING
    await ingot.redis.zadd("ingot:deadlines", {parent.id: 1})  # as if its lease had ended
    with worker(ingot):
        parent = (await ingot.ended(parent.id))[-1]

    assert parent.attempt == 2
    assert parent.children == ChildSummary(total=40, succeeded=40)
    assert len(await ingot.records.list(limit=100)) == 41
    assert {job.id for job in made} <= {parent.id, *parent.child_job_ids}


@pytest.mark.slow
async def test_more_lists_than_slots_all_end(ingot: PlaylistHarness) -> None:
    parents = [
        await ingot.make(ingot.serve_list(f"{name}.list", ingot.entries(3, folder=name)))
        for name in ("a", "b", "c", "d", "e")
    ]
    with worker(ingot, worker_slots=2):
        ends = [(await ingot.ended(parent.id))[-1] for parent in parents]

    assert {end.state for end in ends} == {job_pb2.JOB_STATE_SUCCEEDED}
    assert {end.children.succeeded for end in ends} == {3}


async def test_a_list_fails_when_all_of_it_does(ingot: PlaylistHarness) -> None:
    urls = [ingot.origin.url(f"/gone-{number}.mp4") for number in range(2)]
    with worker(ingot):
        job = await ingot.make(ingot.serve_list("bad.list", urls))
        parent = (await ingot.ended(job.id))[-1]

    assert parent.state == job_pb2.JOB_STATE_FAILED
    assert reason_of(parent) == reason_pb2.REASON_ENTRIES_FAILED
    assert parent.children == ChildSummary(total=2, failed=2)


async def test_cancel_ends_the_children_that_no_other_job_needs(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(20)
    others = await ingot.make(urls[0], send=False)
    parent = await ingot.make(ingot.serve_list("some.list", urls), send=False)
    await ingot.expand(parent, urls)
    waiting = await ingot.read(parent.id)
    assert waiting.state == job_pb2.JOB_STATE_RUNNING
    assert waiting.children == ChildSummary(total=20)
    asked_for = await ingot.make(urls[19], send=False)
    assert asked_for.id == waiting.child_job_ids[19]

    cancelled = await ingot.records.cancel(parent.id)

    assert cancelled is not None
    assert cancelled.state == job_pb2.JOB_STATE_CANCELLED
    children = await ingot.children(waiting)
    kept = {child.id for child in children if child.state == job_pb2.JOB_STATE_QUEUED}
    assert kept == {others.id, asked_for.id}
    assert {child.state for child in children if child.id not in kept} == {
        job_pb2.JOB_STATE_CANCELLED
    }
    assert await ingot.redis.zscore("ingot:deadlines", parent.id) is None


async def test_a_cancel_that_broke_off_is_finished_by_the_sweep(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(3)
    parent = await ingot.make(ingot.serve_list("some.list", urls), send=False)
    await ingot.expand(parent, urls)

    async def break_off(parent: Job) -> None:
        raise ConnectionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingot.records.children, "cancel_children", break_off)
        with pytest.raises(ConnectionError):
            await ingot.records.cancel(parent.id)

    assert await ingot.records.dispatch.sweep(10) == [parent.id]
    assert await ingot.records.recover(parent.id) == NothingToDo()

    children = await ingot.children(await ingot.read(parent.id))
    assert {child.state for child in children} == {job_pb2.JOB_STATE_CANCELLED}
    assert parent.id not in await ingot.records.dispatch.sweep(10)


async def test_a_cancelled_list_gets_no_more_children(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(3)
    parent = await ingot.make(ingot.serve_list("some.list", urls), send=False)
    claim = await ingot.records.claim(parent.id)
    assert claim is not None

    async def expand() -> None:
        async with hold(ingot.records, ingot.feed, claim) as lease:
            await ingot.records.cancel(parent.id)
            await ingot.playlists.ingest_entries(urls, claim.job, lease)

    with pytest.raises(JobCancelled):
        await expand()

    assert len(await ingot.records.list(limit=10)) == 1


@pytest.mark.parametrize(
    ("count", "total", "most", "reason"),
    [
        (4, 0, 3, reason_pb2.REASON_TOO_MANY_ENTRIES),
        (2, 4, 3, reason_pb2.REASON_TOO_MANY_ENTRIES),
        (0, 0, 3, reason_pb2.REASON_NOT_MEDIA),
        (3, 3, 3, None),
    ],
)
async def test_a_list_has_a_limit(
    ingot: PlaylistHarness, count: int, total: int, most: int, reason: int | None
) -> None:
    urls = ingot.entries(count)
    parent = await ingot.make(
        ingot.serve_list("long.list", urls), send=False, options={"max_entries": most}
    )
    claim = await ingot.records.claim(parent.id)
    assert claim is not None
    found = None
    async with hold(ingot.records, ingot.feed, claim) as lease:
        try:
            await ingot.playlists.ingest_entries(urls, claim.job, lease, total=total)
        except Failure as failure:
            found = failure.reason

    assert found == reason
    assert len(await ingot.records.list(limit=10)) == (1 if reason else 4)


async def test_a_list_that_leads_back_to_itself_still_ends(ingot: PlaylistHarness) -> None:
    [clip] = ingot.entries(1)
    here, there = ingot.origin.url("/here.list"), ingot.origin.url("/there.list")
    ingot.serve_list("here.list", [here, there, clip])
    ingot.serve_list("there.list", [here, clip])
    with worker(ingot):
        job = await ingot.make(here)
        parent = (await ingot.ended(job.id))[-1]

    assert parent.state == job_pb2.JOB_STATE_SUCCEEDED
    assert parent.children == ChildSummary(total=2, succeeded=2)
    assert len(ingot.origin.gets("/entry-0.mp4")) == 1


async def test_a_list_names_videos_by_links_of_lists_and_lists_by_their_own(
    ingot: PlaylistHarness,
) -> None:
    inside = "https://youtu.be/dQw4-9Wg_cQ?list=PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf"
    alone = "https://www.youtube.com/playlist?list=PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf"
    neither = "https://www.youtube.com/results?search_query=bells"
    parent = await ingot.make(ingot.serve_list("some.list", []), send=False)
    await ingot.expand(parent, [inside, alone, neither])

    video, listed, refused = await ingot.children(await ingot.read(parent.id))

    assert (video.media.source.key, video.options.playlist) == ("youtube:dQw4-9Wg_cQ", False)
    assert listed.media.source.key == "youtube-playlist:PLrAXtmErZgOeiKm4sgNOknGvNjby9efdf"
    assert listed.options.playlist
    assert reason_of(refused) == reason_pb2.REASON_INVALID_REQUEST


async def test_a_long_list_leaves_room_for_others(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(30)
    parent = await ingot.make(ingot.serve_list("long.list", urls), send=False)
    await ingot.expand(parent, urls)
    job_ids = (await ingot.read(parent.id)).child_job_ids

    # What it dispatches, and the slots that it announces, last for longer than the test.
    hour = timedelta(hours=1)
    settings = ingot.settings.replace(resend_interval=hour, lease=hour)
    dispatch = Records(ingot.redis, settings).dispatch
    for name in ("one", "two"):
        await dispatch.announce(name, Work.FETCH, 30)
    assert {each.job_id for each in (await dispatch.take(Work.FETCH)).jobs} == {*job_ids[:12]}
    assert await ingot.records.children.advance(parent.id) == 0
    for child_id in job_ids[:2]:
        await ingot.records.cancel(child_id)
    assert await ingot.records.children.advance(parent.id) == 2
    assert {each.job_id for each in (await dispatch.take(Work.FETCH)).jobs} == {*job_ids[12:14]}


async def test_the_command_line_shows_a_list_and_its_entries(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(4)
    slow = ingot.origin.pages["/entry-3.mp4"]
    slow.rate = len(ingot.tiny) / 4
    gone = ingot.origin.url("/gone.mp4")
    listed = ingot.serve_list("shown.list", [*urls, gone])
    [clip] = ingot.entries(1, folder="clip")
    with tempfile.TemporaryDirectory(prefix="ingot-") as directory:
        settings = ingot.settings.replace(grpc_address=f"unix:{directory}/api")
        async with running(settings):
            with worker(ingot):
                arguments = ("ingest", "--playlist", listed, gone, clip)
                code, stdout, drawn = await run_on_terminal(
                    settings.grpc_address, *arguments, columns=160
                )
            [parent] = await ingot.records.list(limit=1, accepts=lambda job: job.url == listed)
            shown = await run_command(settings.grpc_address, "job", parent.id)

    assert code == 1
    assert "of 5 stored" in drawn
    assert re.search(r"downloading .*entry-3.mp4", drawn)
    assert re.search(r"gone.mp4: .*MEDIA_DOES_NOT_EXIST", drawn)
    assert "4 of 5 stored, 1 failed" in stdout
    assert clip in stdout
    names = [*(f"entry-{number}" for number in range(4)), "gone.mp4"]
    assert all(name in shown.stdout for name in names)
    assert shown.code == 0


async def test_a_stale_worker_adds_no_children(ingot: PlaylistHarness) -> None:
    urls = ingot.entries(2)
    parent = await ingot.make(ingot.serve_list("some.list", urls), send=False)
    claim = await ingot.records.claim(parent.id)
    assert claim is not None
    await ingot.records.release(parent.id, claim.token)
    again = await ingot.records.claim(parent.id)
    assert again is not None

    with pytest.raises(LeaseLost):
        async with hold(ingot.records, ingot.feed, claim) as lease:
            await ingot.playlists.ingest_entries(urls, claim.job, lease)

    assert len(await ingot.records.list(limit=10)) == 1
