"""The events of the log. Every line has one, so that alerts and searches need no texts.

A name, once released, keeps its meaning. docs/reference/log_events.md is made from this list.
"""

from __future__ import annotations

from enum import Enum, unique


@unique
class Event(Enum):
    """What has happened; the value says it in words, `event_name` is what the log has."""

    # Jobs
    JOB_SUCCEEDED = "A job stored its media item."
    ATTEMPT_FAILED = "An attempt of a job failed; the job is tried again, or ends with the reason."
    JOB_ABANDONED = "A worker no longer has the lease of a job, so another one runs it."
    JOB_DEFECT = "A job failed because of a defect in Ingot."
    LIST_NOT_ADVANCED = "What waits for a job, or what it waits for, is told later."
    PARENT_REPLACED = "The media item to convert was replaced meanwhile; its successor is read."
    TRAFFIC_NOT_COUNTED = "Bytes that a job received are not counted for its caller."
    SIDE_FILES_INCOMPLETE = "Subtitles or other side files of a media item could not be stored."

    # Extraction, probing, conversion
    EXTRACTION_FAILED = "yt-dlp failed with an error of which Ingot knows no reason."
    EXTRACTION_KILLED = "The process of an extraction did not end by itself."
    EXTRACTOR_FELL_BACK = "The installed yt-dlp cannot be used; another version is."
    EXTRACTOR_ROLLED_BACK = "A new yt-dlp failed where the one before works, which is used again."
    EXTRACTOR_NOT_UPDATED = "A new yt-dlp was not installed."
    CANARIES_FAILED = "URLs that are known to work failed."
    CANARIES_NOT_RUN = "Whether known URLs work could not be tried."
    PREFLIGHT_UNDECIDED = "A source did not say whether a media item exists, before the job began."
    PREFLIGHT_NOT_STORED = "That a media item does not exist could not be cached."
    PROBE_KILLED = "The process that probes a file did not end by itself."
    FFMPEG_FAILED = "ffmpeg failed; the line has the end of what it said."
    CONVERSION_RESTARTED = "A conversion begins again in another way."
    EARLY_CONVERSION_IMPOSSIBLE = "A conversion could not start while its file arrived."
    COVER_LEFT_OUT = "The picture of a media item cannot be used as its cover."
    TRANSCRIPTION_WAITS = "The service that transcribes has no time, and is asked again."
    FORK_SERVER_NOT_READY = "A process that children are forked from was not ready in advance."
    FORK_SERVER_REPLACED = "A process that children are forked from hung, and was replaced."
    FORK_SERVER_OUTPUT = "A line that such a process wrote."

    PO_TOKENS_FAILED = "PO tokens for YouTube could not be made; the job goes on without."
    PO_TOKENS_REFUSED = "YouTube did not accept PO tokens; the job is extracted without."
    COOKIES_STATE = "The state of a source's cookies is another one: `state` in ListSources."

    # The guard
    EGRESS_REFUSED = "A connection to a source was refused, or failed; `error` is its Proxy-Status."

    # Dispatch and workers
    WORKER_READY = "A worker runs jobs from now on."
    CONFINEMENT_INCOMPLETE = "The kernel lacks something that confines children; see `doctor`."
    DISPATCH_WAITS = "No job was dispatched, because Redis or the broker did not respond."
    DISPATCH_REFUSED = "A job cannot be dispatched, and ends."
    SWEEP_FAILED = "A job that was due could not be looked after; it is tried again."
    UPLOAD_SWEEP_FAILED = "Abandoned uploads were not removed; it is tried again."
    TASK_FAILED = "A task of a worker failed because of a defect, and was started again."
    CELERY_ENDED = "Celery ended by itself, so the worker ends, too."

    # Redis and the bucket
    SERVER_LOST = "Redis, the broker, the bucket or the collector of traces cannot be used."
    SERVER_BACK = "It can be used again."
    STORE_LOST = "An API server reports that it is not serving, because a store cannot be used."
    STORE_BACK = "It reports that it is serving again."
    CACHE_LOST = "Redis does not respond, so media items are read from the bucket."
    WATCHES_WAIT = "Watches wait for Redis."
    CHANGE_UNREADABLE = "Something else than Ingot publishes on the channel of the jobs."
    JOBS_RESTORED = "Redis had lost accepted jobs, which were made again from the journal."
    ENDS_RESTORED = "Redis had lost how jobs have ended, which the journal has."
    INDEX_COMPLETE = "The index of the media items was read from the bucket."
    INDEX_COPY_DAMAGED = "A part of the index's copy in the bucket is damaged and is written again."
    MEDIA_NOT_INDEXED = "A media item is stored, but is not in lists yet."
    MANIFEST_UNREADABLE = "A manifest in the bucket cannot be read."
    ALIAS_UNREADABLE = "An alias in the bucket cannot be read."
    JOURNAL_UNREADABLE = "An entry of the journal cannot be read, so its jobs are lost."
    WEBHOOKS_UNREADABLE = "Webhooks in the bucket cannot be read, so they are not sent."
    BLOB_MISSING = "A manifest names a blob that is not in the bucket."
    BLOB_NOT_CHECKED = "Whether a blob is in the bucket could not be found out."
    MEDIA_DAMAGED = "A stored file is not what was stored."
    DAMAGE_NOT_NOTED = "That a file is damaged could not be stored."
    OBJECTS_LEFT = "Objects were left in the bucket; `gc` removes them."
    S3_KEYS_NOT_RENEWED = "Keys for the bucket could not be renewed before they expire."
    VACUUM_FAILED = "The embedded S3 server could not free space."

    # Upkeep
    GARBAGE_REMOVED = "`gc` removed an object that nothing refers to."
    MEDIA_PAST_RULE = "`gc` removed a media item that is past a rule of retention."
    RETENTION_READ = "The file of the rules of retention was read."
    RETENTION_NOT_READ = "The file of the rules has an error, so the rules stay as they were."
    GARBAGE_COLLECTION_FAILED = "A collection of garbage ended early."
    SCRUB_FOUND = "`scrub` found a file that is damaged."
    SCRUB_ENDED = "`scrub` has read what it was to read."
    SCRUB_RESTARTED = "How far `scrub` came is not readable, so it begins again."
    SCRUB_FAILED = "`scrub` ended early."
    DELIVERY_FAILED = "A webhook was not accepted; it is sent again, or given up."
    DELIVERY_DEFECT = "A webhook was not sent because of a defect in Ingot."

    # Subscriptions
    SUBSCRIPTION_CHECKED = "A check of a subscription found new entries, and made jobs of them."
    SUBSCRIPTION_FAILED = "A check of a subscription failed; the next one comes later."
    ENTRY_REFUSED = "A new entry of a subscription can be no job, and is left out."
    SUBSCRIPTION_UNREADABLE = "A subscription in the bucket cannot be read, so it is not followed."
    FEED_UNREADABLE = "A podcast feed in the bucket cannot be read, so it is not served."
    SUBSCRIPTIONS_RESTORED = "Redis had lost subscriptions, which the bucket has."

    # The API
    SERVING = "An API server answers at an address."
    DRAINING = "An API server ends its calls, because it is to stop."
    CALL_FAILED = "A call failed because of a defect in Ingot; its caller has the correlation id."
    CALL_SLOW = "A call that is no stream took longer than `INGOT_SLOW_CALL`."
    UPLOAD_NOT_COUNTED = "Bytes of an upload are not counted for its caller."
    TOKENS_READ = "The file of the tokens was read."
    TOKENS_NOT_READ = "The file of the tokens has an error, so the tokens stay as they were."
    CERTIFICATE_READ = "The server's certificate was read."
    CERTIFICATE_NOT_READ = "The certificate has an error, so the one before stays in use."

    # Processes
    UNKNOWN_SETTING = "A variable looks like a setting, but is none."
    PROGRAM_OUTPUT = "A line of Redis, S3 or another program that `up` runs."
    PROGRAM_ENDED = "A program that `up` or `serve` runs ended, and is started again."
    PROGRAM_KILLED = "A program did not stop in time, and was killed."
    LIBRARY = "A line of a library that Ingot uses."

    @property
    def event_name(self) -> str:
        """The name in the log, such as `job_succeeded`."""
        return self.name.lower()
