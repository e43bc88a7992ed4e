import { type Job, JobService } from "@ingot/client/v1";
import { untrack } from "svelte";

import { client } from "../connection/client";
import { isFiltered, type JobFilters, matches, requestOf } from "./filters";
import { type Entry, jobStore } from "./store.svelte";

const PAGE_SIZE = 200;

/** A line of the list: its entry, and the job as it was when the list was paused. */
export interface Line {
  id: string;
  entry: Entry;
  frozen: Job | undefined;
}

/**
 * Which jobs the list shows.
 *
 * While the reader is further down, or has paused the list, no line appears, moves or goes: what is
 * new is counted. Lines that are shown go on to change in place, unless the list is paused.
 */
export class ShownJobs {
  lines: readonly Line[] = $state.raw([]);
  paused = $state(false);
  /** Whether the first line is in view. */
  atTop = $state(true);
  loading = $state(false);

  readonly #filters: () => JobFilters;
  readonly #matching = $derived.by(() => {
    void jobStore.version;
    const filters = this.#filters();
    return untrack(() =>
      [...jobStore.entries]
        .filter(([, { job }]) => matches(job, filters))
        .sort(([one], [other]) => (one < other ? 1 : -1)),
    );
  });
  /** How many jobs match that the list does not show yet. */
  readonly fresh = $derived.by(() => {
    // eslint-disable-next-line svelte/prefer-svelte-reactivity -- it never changes
    const shown = new Set(this.lines.map((line) => line.id));
    return this.#matching.filter(([id]) => !shown.has(id)).length;
  });

  #pageToken: string | undefined = "";

  /** Has to be created in a component: it lives as long as that. */
  constructor(filters: () => JobFilters) {
    this.#filters = filters;
    // Other filters are the reader's wish, so they apply at once, wherever the reader is.
    $effect(() => {
      void filters();
      untrack(() => {
        this.#pageToken = "";
        this.refresh();
        if (isFiltered(filters())) void this.loadMore();
      });
    });
    $effect(() => {
      void this.#matching;
      if (this.atTop && !this.paused) untrack(() => this.refresh());
    });
  }

  /** Shows every job that matches. */
  refresh(): void {
    this.lines = this.#matching.map(([id, entry]) => ({
      id,
      entry,
      frozen: this.paused ? entry.job : undefined,
    }));
  }

  togglePause(): void {
    this.paused = !this.paused;
    if (this.paused) this.lines = this.lines.map((line) => ({ ...line, frozen: line.entry.job }));
    else this.refresh();
  }

  /** Loads older jobs that match. */
  async loadMore(): Promise<void> {
    if (this.loading || this.#pageToken === undefined) return;
    this.loading = true;
    const filters = this.#filters();
    const pageToken = this.#pageToken;
    try {
      const request = { ...requestOf(filters), pageSize: PAGE_SIZE, pageToken };
      const page = await client.call(JobService.method.listJobs, request);
      if (filters !== this.#filters()) return;
      this.#pageToken = page.nextPageToken || undefined;
      for (const job of page.jobs) jobStore.receive(job);
      jobStore.show();
      if (!this.paused) this.#append();
    } catch {
      // The badge says that the connection is lost; scrolling asks again.
    } finally {
      this.loading = false;
    }
  }

  /** Adds the jobs that are older than the last line, which moves no other line. */
  #append(): void {
    const last = this.lines.at(-1)?.id;
    const older = this.#matching.filter(([id]) => last === undefined || id < last);
    if (older.length) {
      const lines = older.map(([id, entry]) => ({ id, entry, frozen: undefined }));
      this.lines = [...this.lines, ...lines];
    }
  }
}
