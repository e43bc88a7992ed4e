import { hasEnded } from "@ingot/client";
import type { Job } from "@ingot/client/v1";

import { jobStore } from "./store.svelte";

/**
 * Yields a job as it is now, then every change that the page's one stream brings. The last one is
 * how the job ended, unless the server's record of it expires first.
 *
 * `JobHandle.watch` would open a stream for each job, and a browser opens at most six connections
 * to a server. Throws the reason of `signal` when that is aborted.
 */
export async function* follow(job: Job, signal: AbortSignal): AsyncGenerator<Job, void, undefined> {
  let wake = () => {};
  let yielded: Job | undefined;
  const entry = jobStore.take(job);
  let latest = entry.job;
  const stopListening = jobStore.listen((changed) => {
    if (changed.id !== job.id) return;
    latest = changed;
    wake();
  });
  const onabort = () => {
    wake();
  };
  signal.addEventListener("abort", onabort);
  try {
    for (;;) {
      signal.throwIfAborted();
      if (yielded !== latest) {
        yielded = latest;
        yield latest;
      } else if (hasEnded(latest) || entry.removed) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  } finally {
    signal.removeEventListener("abort", onabort);
    stopListening();
  }
}
