/**
 * The state of the installation, requested every few seconds while the view is open. What the
 * sources do follows from the jobs that the page watches.
 */

import type { GetSystemResponse, QuotaStatus, SourceStatus } from "@ingot/client/v1";

import { client } from "../connection/client";
import { jobStore } from "../jobs/store.svelte";
import { type Activity, activityOf, appended, IDLE } from "./activity";

/** GetSystem should be called every few seconds at most. */
const PERIOD_MS = 5000;
/** Ten minutes. */
export const HISTORY_LENGTH = 120;

class SystemStatus {
  system = $state.raw<GetSystemResponse | undefined>(undefined);
  sources = $state.raw<readonly SourceStatus[]>([]);
  /** The limits of whoever uses the page, who may see them without seeing the rest. */
  quotas = $state.raw<readonly QuotaStatus[]>([]);
  /** Why the last call failed. What is shown is then stale. */
  error = $state.raw<unknown>(undefined);
  /** Number of jobs that waited at each call. */
  queued = $state.raw<readonly number[]>([]);
  /** What each source does now. */
  activity = $state.raw<ReadonlyMap<string, Activity>>(new Map());
  /** Number of jobs that ran at each source at each call. */
  running = $state.raw<ReadonlyMap<string, readonly number[]>>(new Map());

  #watchers = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Asks until the returned function is called. */
  watch(): () => void {
    this.#watchers += 1;
    if (this.#watchers === 1) void this.#ask();
    return () => {
      this.#watchers -= 1;
      if (this.#watchers === 0) clearTimeout(this.#timer);
    };
  }

  activityAt(source: string): Activity {
    return this.activity.get(source) ?? IDLE;
  }

  async #ask(): Promise<void> {
    if (!document.hidden) {
      await Promise.all([this.#askState(), this.#askQuota()]);
    }
    clearTimeout(this.#timer);
    if (this.#watchers > 0) this.#timer = setTimeout(() => void this.#ask(), PERIOD_MS);
  }

  async #askState(): Promise<void> {
    try {
      this.#show(...(await Promise.all([client.system(), client.sources()])));
      this.error = undefined;
    } catch (error) {
      this.error = error;
    }
  }

  async #askQuota(): Promise<void> {
    try {
      this.quotas = (await client.quota()).quotas;
    } catch {
      // The other call says why the server cannot be asked.
    }
  }

  #show(system: GetSystemResponse, sources: SourceStatus[]): void {
    this.system = system;
    this.sources = sources;
    this.activity = activityOf([...jobStore.entries.values()].map(({ job }) => job));
    const queued = system.queues.reduce((sum, queue) => sum + queue.queued, 0);
    this.queued = appended(this.queued, queued, HISTORY_LENGTH);
    this.running = new Map(
      sources.map(({ name }) => {
        const history = this.running.get(name) ?? [];
        return [name, appended(history, this.activityAt(name).running, HISTORY_LENGTH)];
      }),
    );
  }
}

export const systemStatus = new SystemStatus();
