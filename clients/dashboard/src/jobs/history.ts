import { type Job, JobStage, JobState, type JobWaiting } from "@ingot/client/v1";

/** What a job did or waited for between two times, as far as the page watched it. */
export interface Span {
  kind: "stage" | "wait";
  stage: JobStage;
  /** What it waited for. Set for a wait. */
  cause: JobWaiting["cause"] | undefined;
  attempt: number;
  start: number;
  /** Unset while it goes on. */
  end: number | undefined;
}

/** Adds what a state of a job says, received at `now`, in milliseconds. Returns the same list if that is nothing new. */
export function extendHistory(history: readonly Span[], job: Job, now: number): readonly Span[] {
  const last = history.at(-1);
  const next = spanOf(job, now);
  if (last && next && last.end === undefined && isSame(last, next)) return history;
  const closed = history.map((span) => (span.end === undefined ? { ...span, end: now } : span));
  if (next) return [...closed, next];
  return last?.end === undefined && last ? closed : history;
}

function spanOf(job: Job, now: number): Span | undefined {
  if (job.state >= JobState.SUCCEEDED) return undefined;
  const shared = { stage: job.stage, attempt: job.attempt, start: now, end: undefined };
  if (job.waiting) return { ...shared, kind: "wait", cause: job.waiting.cause };
  if (job.state !== JobState.RUNNING || job.stage === JobStage.UNSPECIFIED) return undefined;
  return { ...shared, kind: "stage", cause: undefined };
}

function isSame(one: Span, other: Span): boolean {
  if (one.kind !== other.kind || one.attempt !== other.attempt) return false;
  return one.kind === "wait" ? one.cause === other.cause : one.stage === other.stage;
}
