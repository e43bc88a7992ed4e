import { isLater } from "@ingot/client";
import { type Job, JobService, JobState } from "@ingot/client/v1";

import { client } from "../connection/client";
import { extendHistory, type Span } from "./history";
import { throttled } from "./throttled";

/** How often what arrives is shown, at most: four times a second. */
const SHOW_MS = 250;
/** How often the counts are asked for while jobs change their state, at most. */
const COUNT_MS = 1000;
/** How many ended jobs are kept; the list loads more when the reader scrolls to its end. */
const KEPT_JOBS = 5000;

/** A job as it is shown. It stays the same object while its job changes. */
export class Entry {
  job: Job = $state.raw() as Job;
  history: readonly Span[] = $state.raw([]);
  /** Whether the server's record of the job has expired. */
  removed = $state(false);

  constructor(job: Job) {
    this.job = job;
  }
}

type Listener = (job: Job) => void;

/**
 * All jobs that the page knows.
 *
 * What the server sends is collected and shown together, so that 1,000 live jobs cost as much as a
 * few. `version` grows each time; who reads many entries depends on it instead of on each of them.
 */
class JobStore {
  readonly entries = new Map<string, Entry>();
  version = $state(0);
  /** Whether the first snapshot is complete. */
  complete = $state(false);
  /** How many jobs are on record in each state, whatever the filters are. */
  counts: ReadonlyMap<JobState, number> = $state.raw(new Map());

  readonly #pending = new Map<string, Job>();
  readonly #histories = new Map<string, readonly Span[]>();
  readonly #listeners = new Set<Listener>();
  #showTimer: ReturnType<typeof setTimeout> | undefined;

  /** Takes a job that the server sent. */
  receive(job: Job): void {
    const known = this.#pending.get(job.id) ?? this.entries.get(job.id)?.job;
    if (known && !isLater(job, known) && known.revision !== job.revision) return;
    this.#histories.set(job.id, extendHistory(this.#histories.get(job.id) ?? [], job, Date.now()));
    if (known?.state !== job.state) this.countSoon();
    this.#pending.set(job.id, job);
    this.#showSoon();
    for (const listener of this.#listeners) listener(job);
  }

  /** Forgets a job whose record has expired. */
  remove(id: string): void {
    this.#pending.delete(id);
    this.#histories.delete(id);
    const entry = this.entries.get(id);
    this.entries.delete(id);
    if (entry) {
      entry.removed = true;
      for (const listener of this.#listeners) listener(entry.job);
    }
    this.countSoon();
    this.#showSoon();
  }

  /** The entry of a job, which is taken in if it is not known yet. */
  take(job: Job): Entry {
    this.receive(job);
    this.show();
    return this.entries.get(job.id) ?? new Entry(job);
  }

  /**
   * Calls `listener` with every state of a job as it arrives, and with the last one when its record
   * has expired. Returns what ends that.
   */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Shows what has arrived. */
  show(): void {
    clearTimeout(this.#showTimer);
    this.#showTimer = undefined;
    for (const [id, job] of this.#pending) {
      const entry = this.entries.get(id) ?? new Entry(job);
      this.entries.set(id, entry);
      entry.job = job;
      entry.history = this.#histories.get(id) ?? [];
    }
    this.#pending.clear();
    this.#forgetOldest();
    this.version += 1;
  }

  /** Asks for the counts soon, and once for many changes. */
  readonly countSoon = throttled(() => this.#count(), COUNT_MS);

  async #count(): Promise<void> {
    try {
      const { stateCounts } = await client.call(JobService.method.listJobs, { pageSize: 1 });
      this.counts = new Map(stateCounts.map(({ state, count }) => [state, Number(count)]));
    } catch {
      // The connection badge says that the server is away, and the counts come with its return.
    }
  }

  #showSoon(): void {
    this.#showTimer ??= setTimeout(() => {
      this.show();
    }, SHOW_MS);
  }

  #forgetOldest(): void {
    if (this.entries.size <= KEPT_JOBS) return;
    for (const id of [...this.entries.keys()].sort().slice(0, this.entries.size - KEPT_JOBS)) {
      const entry = this.entries.get(id);
      if (entry && entry.job.state >= JobState.SUCCEEDED) this.entries.delete(id);
    }
  }
}

export const jobStore = new JobStore();
