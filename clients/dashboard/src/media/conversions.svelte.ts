/** What was made of a media item, and what is being made of it now. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { errorOf, hasEnded, type Job, JobState, type Media } from "@ingot/client";
import type { RecipeSchema } from "@ingot/client/v1";

import { client } from "../connection/client";
import { follow } from "../jobs/follow";
import type { Format } from "./recipe";

export class Conversions {
  /** Stored results, the latest first. */
  made = $state.raw<readonly Media[]>([]);
  /** Jobs that were started here and have not succeeded, the latest first. */
  jobs = $state.raw<readonly Job[]>([]);
  loaded = $state(false);
  /** Why the results could not be listed, or a conversion could not be started. */
  error = $state.raw<unknown>(undefined);

  readonly #mediaId: string;
  readonly #stopped = new AbortController();

  constructor(mediaId: string) {
    this.#mediaId = mediaId;
  }

  /** The stored waveform; undefined if there is none. */
  get waveform(): Media | undefined {
    return this.made.find((media) => media.recipe?.format.case === "waveform");
  }

  isRunning(format: Format): boolean {
    return this.jobs.some(
      (job) => !hasEnded(job) && job.recipes.some((recipe) => recipe.format.case === format),
    );
  }

  /** Lists the results. */
  async load(): Promise<void> {
    this.error = undefined;
    const { signal } = this.#stopped;
    try {
      const made: Media[] = [];
      const filter = { derivedFromMediaId: this.#mediaId, signal };
      for await (const media of client.listMedia(filter)) made.push(media);
      this.made = made;
      this.loaded = true;
    } catch (error) {
      if (!signal.aborted) this.error = error;
    }
  }

  /** Starts a conversion, and follows it to its end. */
  async make(recipe: MessageInitShape<typeof RecipeSchema>): Promise<void> {
    this.error = undefined;
    const { signal } = this.#stopped;
    try {
      const handle = await client.convert(this.#mediaId, recipe, { signal });
      for await (const job of follow(handle.latest, signal)) this.#show(job);
    } catch (error) {
      if (!signal.aborted) this.error = error;
      return;
    }
    await this.load();
  }

  /** Removes a job that failed from what is shown. */
  dismiss(jobId: string): void {
    this.jobs = this.jobs.filter(({ id }) => id !== jobId);
  }

  /** Follows nothing any more; the jobs go on. */
  stop(): void {
    this.#stopped.abort();
  }

  #show(job: Job): void {
    const others = this.jobs.filter(({ id }) => id !== job.id);
    this.jobs = job.state === JobState.SUCCEEDED ? others : [job, ...others];
  }
}

/** Returns why a job failed, in words; empty if it did not. */
export function failureOf(job: Job): string {
  return errorOf(job)?.message ?? "";
}
