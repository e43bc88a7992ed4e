import { JobState } from "@ingot/client/v1";
import { untrack } from "svelte";

import { formatRate } from "../format";
import { texts } from "../texts";
import { jobStore } from "./store.svelte";

/** The rate of all running jobs in bytes per second. The parts of a job are in its own rate. */
export function totalRate(): number {
  void jobStore.version;
  return untrack(() => {
    let rate = 0;
    for (const { job } of jobStore.entries.values()) {
      if (job.state !== JobState.RUNNING || job.waiting || job.parentJobId) continue;
      rate += job.progress?.stage?.bytesPerSecond ?? 0;
    }
    return rate;
  });
}

/** The title of the window, which is read in the background: rate first. */
export function windowTitle(place: string): string {
  const parts = [];
  const rate = totalRate();
  const running = jobStore.counts.get(JobState.RUNNING) ?? 0;
  if (rate > 0) parts.push(formatRate(rate));
  if (running > 0) parts.push(texts.job.running(running));
  return [...parts, place, texts.product].filter(Boolean).join(" · ");
}
