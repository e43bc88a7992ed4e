/** What the sources and the queue did while this page was open, for sparklines. */

import { type Job, JobState } from "@ingot/client/v1";

/** What one source does at one moment. */
export interface Activity {
  /** Jobs that run. */
  running: number;
  /** Bytes per second of all of them. */
  rate: number;
}

export const IDLE: Activity = { running: 0, rate: 0 };

/** Returns what each source does now. A job with children counts by these alone. */
export function activityOf(jobs: Iterable<Job>): Map<string, Activity> {
  const found = new Map<string, Activity>();
  for (const job of jobs) {
    const name = job.media?.source?.name;
    if (job.state !== JobState.RUNNING || job.children !== undefined || !name) continue;
    const sum = found.get(name) ?? { ...IDLE };
    sum.running += 1;
    sum.rate += job.progress?.stage?.bytesPerSecond ?? 0;
    found.set(name, sum);
  }
  return found;
}

/** Returns `history` with one more value, and only the latest `length` of them. */
export function appended<T>(history: readonly T[], value: T, length: number): T[] {
  return [...history.slice(-(length - 1)), value];
}

/** Returns the points of a line through `values` in a box, for SVG. The newest is at the right. */
export function linePoints(
  values: readonly number[],
  length: number,
  width: number,
  height: number,
): string {
  const most = Math.max(1, ...values);
  const step = width / Math.max(1, length - 1);
  const begin = width - step * (values.length - 1);
  return values
    .map(
      (value, index) => `${round(begin + index * step)},${round(height - (value / most) * height)}`,
    )
    .join(" ");
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
