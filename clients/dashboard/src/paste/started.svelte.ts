import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Job, JobKind, JobState } from "@ingot/client/v1";

import { saveMedia } from "../jobs/actions";
import { type Entry, jobStore } from "../jobs/store.svelte";
import { resultOf } from "./request";

/** A job that was started here. */
export interface Started {
  entry: Entry;
  /** Whether to save its file when it is stored. */
  save: boolean;
}

/** How long a job may wait before it is worth asking why. */
const PATIENCE_MS = 5000;

/** Whether a job, or one that it consists of, may still wait for a worker. */
export function waitsLong(job: Job, now: number): boolean {
  const mayWait =
    job.state === JobState.QUEUED || (job.state === JobState.RUNNING && job.children !== undefined);
  const accepted = job.createTime ? timestampMs(job.createTime) : now;
  return mayWait && now - accepted > PATIENCE_MS;
}

/** The jobs that were started here since the page was loaded, the latest first. */
class StartedJobs {
  list: readonly Started[] = $state.raw([]);
  saved: readonly string[] = $state.raw([]);
  readonly #waiting = new Set<string>();

  constructor() {
    jobStore.listen((job) => {
      if (this.#waiting.has(job.id)) this.#finish(job);
    });
  }

  add(job: Job, save: boolean): void {
    const entry = jobStore.take(job);
    this.list = [{ entry, save }, ...this.list.filter((each) => each.entry !== entry)];
    if (!save) return;
    this.#waiting.add(job.id);
    this.#finish(entry.job);
  }

  /** Saves the file of a job that has succeeded, once. */
  #finish(job: Job): void {
    if (job.state < JobState.SUCCEEDED || !this.#waiting.delete(job.id)) return;
    const mediaId = resultOf(job);
    // A list has many files; the reader saves those that are wanted.
    if (job.state !== JobState.SUCCEEDED || job.kind === JobKind.PLAYLIST || !mediaId) return;
    void saveMedia(mediaId).then(() => (this.saved = [...this.saved, job.id]));
  }
}

export const started = new StartedJobs();
