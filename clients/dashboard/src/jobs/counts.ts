import type { Job, JobState } from "@ingot/client/v1";

/** How many of these jobs are in each state. */
export function countsByState(jobs: Iterable<Job>): ReadonlyMap<JobState, number> {
  const counts = new Map<JobState, number>();
  for (const { state } of jobs) counts.set(state, (counts.get(state) ?? 0) + 1);
  return counts;
}
