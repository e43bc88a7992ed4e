"""The bugs that planted.py plants: the guards, how each is undone, and the faults that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.faults import STOP_AFTER_COMMIT

_STOPS = ("stop a worker", "cut Redis off")
_LATE = ("S3 delivers manifests late",)
_KILLS = ("kill a worker", "kill a conversion worker")


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in a file below server/ingot_server."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class PlantedBug:
    """A guard that is undone."""

    name: str
    breaks: str
    """The claim that it must break; empty if it is none."""
    edits: Sequence[Edit]
    plan: Mapping[str, object] = field(default_factory=dict)
    """Fields of Plan besides the seed, and `lease` in seconds."""
    seeds: Sequence[int] = (1, 2, 3)


def _plan(*only: str, faults: int = 25, pause: float = 1.2, **others: object) -> dict[str, object]:
    return {
        "only": only,
        "faults": faults,
        "fault_seconds": pause,
        "load_seconds": 0.3,
        "settle_seconds": 90,
        **others,
    }


BUGS: tuple[PlantedBug, ...] = (
    PlantedBug(
        "none",
        "",
        (),
        _plan(*_STOPS, *_LATE, *_KILLS),
        seeds=(1,),
    ),
    PlantedBug(
        "fencing-token",
        "every_server_knows_each_job_with_its_end",
        (
            Edit(
                "jobs/transition.lua",
                "if arg.token and arg.token ~= token then\n    return { 'lost' }",
                "if arg.token and arg.token ~= token and false then\n    return { 'lost' }",
            ),
            Edit(
                "jobs/transition.lua",
                "  if token ~= arg.token then\n    return { 'lost' }",
                "  if token ~= arg.token and false then\n    return { 'lost' }",
            ),
        ),
        _plan("stop a worker", faults=30),
    ),
    PlantedBug(
        "if-match",
        # A late manifest of a former version stands again, and the file of that version is gone.
        "every_hit_has_its_whole_blob",
        (
            Edit(
                "library/manifest_objects.py",
                "            if_none_match=not over,\n            if_match=over,\n",
                "",
            ),
        ),
        _plan(*_LATE, faults=25, lease=12, load={"ingest_new": 3, "revalidate": 40}),
    ),
    PlantedBug(
        "tombstone",
        "no_deleted_media_came_back_without_an_ingest",
        (
            Edit(
                "library/manifest_objects.py",
                "        return await self._put_tombstone(media_id, etag) is not None",
                "        await self._blobs.remove(manifest_key(media_id))\n        return True",
            ),
        ),
        _plan(*_LATE, faults=30, lease=12, load={"ingest_new": 30, "delete_latest": 30}),
    ),
    PlantedBug(
        "unknown-outcome",
        "every_hit_has_its_whole_blob",
        (Edit("pipeline/commit.py", "    upload.keep()\n    replaced", "    replaced"),),
        _plan(*_LATE, faults=25),
    ),
    PlantedBug(
        "cleanup-rule",
        "every_hit_has_its_whole_blob",
        (
            # Who wakes up without a lease is cancelled at once: this one cleans up even so.
            Edit(
                "pipeline/commit.py",
                "committing.result().media)\n        raise",
                "committing.result().media)\n"
                "            await _remove_superseded(blobs, manifest.media, replaced, lease)\n"
                "        raise",
            ),
            Edit(
                "pipeline/commit.py",
                "    await lease.prove()\n    folder = ",
                "    folder = ",
            ),
            Edit(
                "pipeline/commit.py",
                "        if lease.run > 1:\n            stem = job_stem(lease.job, media.id)\n",
                "        if True:\n            stem = folder\n",
            ),
            Edit(
                "pipeline/commit.py",
                "if is_of_earlier_run(lease, media.id, found.key):",
                'if blobs.url(found.key) not in kept and not found.key.endswith("media.json"):',
            ),
        ),
        # The next attempt must commit another version while a worker is stopped before its cleanup.
        _plan(
            STOP_AFTER_COMMIT,
            faults=4,
            pause=3,
            lease=10,
            load_seconds=2,
            load={"ingest_newest": 1},
        ),
    ),
    PlantedBug(
        "lifetime-of-a-signed-put",
        "no_commit_arrives_later_than_the_lease_of_its_job",
        (
            Edit(
                "library/manifest_objects.py",
                "serialize(manifest, key), over, lifetime)",
                "serialize(manifest, key), over, None)",
            ),
        ),
        _plan(*_LATE, faults=25, lease=2, load={"ingest_new": 30, "cancel": 30}),
    ),
    PlantedBug(
        "single-flight",
        "callers_who_want_the_same_share_a_job",
        (
            Edit(
                "jobs/transition.lua",
                "if not active or field(active, 'ended') ~= '0' then\n    return nil",
                "if not active or field(active, 'ended') ~= '0' or not arg.parent then\n"
                "    return nil",
            ),
        ),
        _plan("stop a worker", faults=5, load={"ingest_twice_at_once": 30, "ingest_new": 10}),
    ),
    PlantedBug(
        "slots-of-ended-jobs",
        "no_lease_slot_or_permit_is_left",
        (
            Edit(
                "jobs/transition.lua",
                "  if arg.ended == '1' then\n    free_slots(id)\n",
                "  if arg.ended == '1' then\n",
            ),
        ),
        _plan("stop a worker", faults=3),
    ),
    PlantedBug(
        "expired-leases",
        "every_accepted_job_ended",
        (
            Edit(
                "jobs/transition.lua",
                "      found[#found + 1] = job_id\n    end\n  end\n  return found",
                "      found[#found + 1] = token == '' and job_id or nil\n    end\n  end\n"
                "  return found",
            ),
        ),
        _plan(
            "kill a worker",
            faults=15,
            load={"ingest_new": 20, "ingest_page": 5, "convert_url": 10, "upload": 5},
        ),
    ),
    PlantedBug(
        "length-of-a-download",
        "every_hit_is_what_its_source_has_served",
        (
            Edit(
                "transfer/body.py",
                'return EOFError("The response ended early.") if missing or self._to_compare '
                "else None",
                "return None",
            ),
            Edit(
                "transfer/body.py",
                "            except (*BROKEN, EOFError) as exc:\n                return exc\n",
                "            except (*BROKEN, EOFError):\n                return None\n",
            ),
        ),
        _plan("stop a worker", faults=8, load={"ingest_new": 1}),
    ),
    PlantedBug(
        "request-ids",
        "a_repeated_request_returns_the_same_job",
        (
            Edit(
                "jobs/requests.lua",
                "  if arg.request_id == '' then\n    return nil",
                "  if true then\n    return nil",
            ),
            Edit("api/admission.py", "if not request.request_id:\n", "if True:\n"),
        ),
        _plan("stop a worker", faults=10, load={"ingest_new": 10, "repeat_request": 30}),
    ),
    PlantedBug(
        "journal",
        "every_accepted_job_ended",
        (
            Edit(
                "journal/writer.py",
                "        await self._objects.write(group, entries)\n",
                "",
            ),
        ),
        _plan("flush Redis", faults=4, pause=4, load={"ingest_new": 30, "upload": 5}),
    ),
    PlantedBug(
        "ends-in-the-journal",
        "what_was_cancelled_stays_cancelled",
        (
            Edit(
                "journal/ends.py",
                "        await self._objects.write(group, entries)\n",
                "",
            ),
        ),
        _plan("flush Redis", faults=6, pause=3, load={"ingest_new": 20, "cancel": 30}),
    ),
)
