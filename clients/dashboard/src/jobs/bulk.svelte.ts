import { JobState } from "@ingot/client/v1";

import { client, messageOf } from "../connection/client";
import { notices } from "../notices/notices.svelte";
import { texts } from "../texts";
import { type JobFilters, requestOf } from "./filters";
import { jobStore } from "./store.svelte";
import { isActive } from "./words";

const ACTIVE = [JobState.QUEUED, JobState.RUNNING];
const RETRYABLE = [JobState.FAILED, JobState.CANCELLED];

/** An action on all jobs that match, and how far it is. */
class BulkAction {
  verb: "cancel" | "retry" | undefined = $state();
  #ids: readonly string[] = $state.raw([]);

  get total(): number {
    return this.#ids.length;
  }

  /** How many of them have ended, as the live list tells. */
  readonly ended = $derived.by(() => {
    void jobStore.version;
    return this.#ids.filter((id) => {
      const entry = jobStore.entries.get(id);
      return !entry || !isActive(entry.job);
    }).length;
  });

  /** Cancels all jobs that match and have not ended. `ids` are those that the page knows. */
  cancel(filters: JobFilters, ids: readonly string[]): Promise<void> {
    return this.#run("cancel", ids, async () => {
      const states = chosen(filters, ACTIVE);
      notices.say(texts.jobs.cancelled(await client.cancelAll({ ...requestOf(filters), states })));
    });
  }

  /** Retries all jobs that match and failed or were cancelled. */
  retry(filters: JobFilters, ids: readonly string[]): Promise<void> {
    return this.#run("retry", ids, async () => {
      const states = chosen(filters, RETRYABLE);
      const { retriedCount, refusedCount } = await client.retryAll({
        ...requestOf(filters),
        states,
      });
      notices.say(texts.jobs.retried(retriedCount, refusedCount));
    });
  }

  async #run(verb: "cancel" | "retry", ids: readonly string[], act: () => Promise<void>) {
    if (this.verb) return;
    this.verb = verb;
    this.#ids = ids;
    try {
      await act();
    } catch (error) {
      notices.fail(texts.jobs.failed, messageOf(error));
    } finally {
      this.verb = undefined;
    }
  }
}

function chosen(filters: JobFilters, states: readonly JobState[]): JobState[] {
  return states.filter((state) => !filters.states.length || filters.states.includes(state));
}

export const bulk = new BulkAction();
