import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Job, JobState, JobWaiting_Cause } from "@ingot/client/v1";

import { texts } from "../texts";
import type { Span } from "./history";
import { causeName, stageName } from "./words";

/** A bar of the time line. */
export interface Bar {
  label: string;
  tone: "stage" | "wait" | "retry" | "queued" | "unwatched";
  /** From 0 to 1, of the whole line. */
  start: number;
  width: number;
  seconds: number;
}

/**
 * Draws the life of a job: the wait for its start, then what the page watched, and as one bar what
 * it did not watch. The server keeps no history of a job, so more is not known.
 */
export function drawTimeLine(job: Job, history: readonly Span[], now: number): Bar[] {
  const created = job.createTime ? timestampMs(job.createTime) : history[0]?.start;
  if (created === undefined) return [];
  const started = job.startTime ? timestampMs(job.startTime) : undefined;
  const end = job.endTime ? timestampMs(job.endTime) : Math.max(now, created);
  const whole = Math.max(end - created, 1);
  const bars: Bar[] = [];

  const add = (label: string, tone: Bar["tone"], from: number, to: number) => {
    const [first, last] = [clamp(from, created, end), clamp(to, created, end)];
    if (last <= first) return;
    const seconds = (last - first) / 1000;
    bars.push({
      label,
      tone,
      start: (first - created) / whole,
      width: (last - first) / whole,
      seconds,
    });
  };

  add(texts.job.states.queued, "queued", created, started ?? end);
  // The clocks of the server and of the reader may differ: what came before the start is the wait.
  let drawn = started ?? end;
  for (const span of history) {
    const to = span.end ?? end;
    const from = Math.max(span.start, drawn);
    if (to <= drawn) continue;
    if (from - drawn > 0.02 * whole) add(texts.job.unwatched, "unwatched", drawn, from);
    const isRetry = span.cause === JobWaiting_Cause.RETRY;
    const attempt = span.attempt > 1 ? `, ${texts.job.attempt(span.attempt)}` : "";
    if (span.kind === "stage") add(stageName(span.stage) + attempt, "stage", from, to);
    else {
      const cause = causeName({ cause: span.cause ?? 0, source: "", host: "" });
      add(texts.job.waits(cause), isRetry ? "retry" : "wait", from, to);
    }
    drawn = to;
  }
  if (started !== undefined && drawn < end && job.state !== JobState.QUEUED) {
    if (end - drawn > 0.02 * whole) add(texts.job.unwatched, "unwatched", drawn, end);
  }
  return bars;
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
