/** The watch of all jobs. */
import type { Connection } from "./connection.js";
import { isLater } from "./job.js";
import type { Fields } from "./request.js";
import type { Job } from "./v1/ingot/v1/job_pb.js";
import { JobService, type WatchJobsRequestSchema } from "./v1/ingot/v1/job_service_pb.js";
import { type Connected, type Disconnected, watch } from "./watch.js";

/** How many jobs a watch remembers, so that it does not repeat updates after a lost connection. */
const REMEMBERED_JOBS = 10_000;

/** What happened to the watched jobs, or to the watch. */
export type JobsEvent =
  | Connected
  | Disconnected
  /** A job of the snapshot, or a job that has changed. */
  | { type: "job"; job: Job }
  /** The snapshot is complete; what follows are changes. It may come again. */
  | { type: "snapshotEnd" }
  /** The record of a job has expired. It may be one that was not sent before. */
  | { type: "removed"; jobId: string };

/** Which jobs to watch, and how. */
export interface WatchJobsOptions extends Fields<typeof WatchJobsRequestSchema, "resumeToken"> {
  /** Ends the watch, which then throws the reason of the signal. */
  signal?: AbortSignal | undefined;
  /** How long to try to reconnect before the watch throws. Without it, the watch never gives up. */
  reconnectTimeoutMs?: number | undefined;
}

/** Do what `Client.watchJobs` does. */
export async function* watchJobs(
  connection: Connection,
  { signal, reconnectTimeoutMs = Infinity, ...filters }: WatchJobsOptions,
): AsyncGenerator<JobsEvent, void, undefined> {
  const seen = new Map<string, Job>();
  const options = { signal, reconnectMs: reconnectTimeoutMs };
  const updates = watch(connection, JobService.method.watchJobs, filters, options);
  for await (const update of updates) {
    if (update.type !== "message") {
      if (update.type === "connected" && !update.resumed) seen.clear();
      yield update;
      continue;
    }
    const { event } = update.message;
    switch (event.case) {
      case "snapshotEnd":
        yield { type: "snapshotEnd" };
        break;
      case "removedJobId":
        seen.delete(event.value);
        yield { type: "removed", jobId: event.value };
        break;
      case "job":
        if (remember(seen, event.value)) yield { type: "job", job: event.value };
    }
  }
}

/** Remember a job. Return whether it is news. */
function remember(seen: Map<string, Job>, job: Job): boolean {
  const before = seen.get(job.id);
  if (before && !isLater(job, before)) return false;
  seen.delete(job.id);
  seen.set(job.id, job);
  const [oldest] = seen.keys();
  if (seen.size > REMEMBERED_JOBS && oldest !== undefined) seen.delete(oldest);
  return true;
}
