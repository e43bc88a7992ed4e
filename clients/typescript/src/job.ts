/** The handle of a job: iterate over it to watch the job, `wait` for its end. */
import type { CallOptions, Connection } from "./connection.js";
import { errorOf, type IngotError } from "./errors.js";
import { type Job, JobState } from "./v1/ingot/v1/job_pb.js";
import { JobService } from "./v1/ingot/v1/job_service_pb.js";
import { watch } from "./watch.js";

/** What a job handle accepts where it waits. */
export type WaitOptions = Pick<CallOptions, "signal">;

/** Return whether a job has ended: it SUCCEEDED, FAILED or was CANCELLED. */
export function hasEnded(job: Job): boolean {
  return job.state >= JobState.SUCCEEDED;
}

/** Return whether `job` is a later state than `other`, another state of the same job. */
export function isLater(job: Job, other: Job): boolean {
  return job.epoch === other.epoch ? job.revision > other.revision : job.epoch > other.epoch;
}

/**
 * The handle of a job. Any number of readers may watch and wait with the same handle, repeatedly.
 *
 * A job that has ended needs no call. After a lost connection, watching continues where it stopped.
 */
export class JobHandle implements AsyncIterable<Job> {
  /** The last state of the job that was received. */
  latest: Job;

  /** @internal */
  constructor(
    private readonly connection: Connection,
    job: Job,
  ) {
    this.latest = job;
  }

  get id(): string {
    return this.latest.id;
  }

  /** Why the job failed or was cancelled. Undefined if it was not. */
  get error(): IngotError | undefined {
    return errorOf(this.latest);
  }

  [Symbol.asyncIterator](): AsyncGenerator<Job, void, undefined> {
    return this.watch();
  }

  /** Yield the current state of the job, then every change. The last one is how the job ended. */
  async *watch({ signal }: WaitOptions = {}): AsyncGenerator<Job, void, undefined> {
    let last = this.latest;
    yield last;
    if (hasEnded(last)) return;
    const { connection } = this;
    const options = { signal, reconnectMs: connection.reconnectMs };
    const request = { jobId: this.id };
    const updates = watch(connection, JobService.method.watchJob, request, options);
    for await (const update of updates) {
      if (update.type !== "message" || update.message.event.case !== "job") continue;
      const job = update.message.event.value;
      if (!isLater(job, last)) continue;
      last = job;
      this.update(job);
      yield job;
      if (hasEnded(job)) return;
    }
  }

  /**
   * Wait until the job has ended, and return it with its results in `media` and `conversions`.
   *
   * Throws IngotError if the job failed or was cancelled.
   */
  async wait(options: WaitOptions = {}): Promise<Job> {
    let last = this.latest;
    for await (const job of this.watch(options)) last = job;
    const error = errorOf(last);
    if (error) throw error;
    return last;
  }

  /**
   * Cancel the job, and return how it ended: a job that ended before it could be cancelled is
   * returned as it ended. One that another caller wants goes on, and is returned as it is.
   */
  async cancel(options: CallOptions = {}): Promise<Job> {
    const request = { jobId: this.id };
    const { job } = await this.connection.call(JobService.method.cancelJob, request, options);
    this.update(job);
    return this.latest;
  }

  private update(job: Job | undefined): void {
    if (job && isLater(job, this.latest)) this.latest = job;
  }
}
