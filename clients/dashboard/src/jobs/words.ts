import { durationMs } from "@bufbuild/protobuf/wkt";
import { errorOf } from "@ingot/client";
import { type Job, JobStage, JobState, type JobWaiting, JobWaiting_Cause } from "@ingot/client/v1";

import type { Look } from "../components/look";
import { formatBytes, formatRate, formatSpan } from "../format";
import { texts } from "../texts";

export function lookOf(state: JobState, isWaiting = false): Look {
  switch (state) {
    case JobState.RUNNING:
      return isWaiting
        ? { text: texts.job.states.waiting, icon: "clock", tone: "waiting" }
        : { text: texts.job.states.running, icon: "running", tone: "running" };
    case JobState.SUCCEEDED:
      return { text: texts.job.states.succeeded, icon: "succeeded", tone: "succeeded" };
    case JobState.FAILED:
      return { text: texts.job.states.failed, icon: "failed", tone: "failed" };
    case JobState.CANCELLED:
      return { text: texts.job.states.cancelled, icon: "cancelled", tone: "cancelled" };
    default:
      return { text: texts.job.states.queued, icon: "queued", tone: "queued" };
  }
}

export function stageName(stage: JobStage): string {
  return texts.job.stages[stage] ?? "";
}

/** What a job waits for, and for how long, such as `Waits for a worker, 3 jobs ahead`. */
export function waitingText(waiting: JobWaiting, now: Date): string {
  const parts = [texts.job.waits(causeName(waiting))];
  if (waiting.jobsAhead) parts.push(texts.job.ahead(waiting.jobsAhead));
  const until = waiting.endTime && Number(waiting.endTime.seconds) * 1000;
  if (until && until > now.getTime()) {
    parts.push(texts.job.goesOn(formatSpan((until - now.getTime()) / 1000)));
  }
  return parts.join(", ");
}

export function causeName({ cause, source, host }: Pick<JobWaiting, "cause" | "source" | "host">) {
  const name = cause === JobWaiting_Cause.HOST_LIMIT ? host : source;
  return texts.job.causes(cause, name);
}

/** What a job does now, or how it ended, in one line. */
export function summaryOf(job: Job, now: Date): string {
  if (job.state === JobState.FAILED || job.state === JobState.CANCELLED) {
    return errorOf(job)?.message ?? "";
  }
  const { children } = job;
  if (children && children.total > 0) {
    const done = children.succeeded + children.failed + children.cancelled;
    const parts = [texts.job.parts(done, children.total)];
    if (children.failed) parts.push(texts.job.partsFailed(children.failed));
    const rate = job.progress?.stage?.bytesPerSecond;
    if (rate && job.state === JobState.RUNNING) parts.push(formatRate(rate));
    return parts.join(" · ");
  }
  if (job.state === JobState.SUCCEEDED) {
    const parts: string[] = [job.cached ? texts.job.wasStored : texts.job.stored];
    if (job.media?.blob) parts.push(formatBytes(job.media.blob.sizeBytes));
    return parts.join(" · ");
  }
  if (job.waiting) return waitingText(job.waiting, now);
  return job.state === JobState.RUNNING ? stageText(job) : texts.job.states.queued;
}

function stageText(job: Job): string {
  const measured = job.progress?.stage;
  const parts = [stageName(job.stage)];
  if (measured && measured.bytesDone > 0n) {
    const total = measured.bytesTotal;
    const done = formatBytes(measured.bytesDone);
    parts.push(total ? texts.job.of(done, formatBytes(total)) : done);
  }
  if (measured?.bytesPerSecond) parts.push(formatRate(measured.bytesPerSecond));
  if (measured?.speed) parts.push(texts.job.speed(measured.speed));
  if (measured?.eta) parts.push(texts.job.left(formatSpan(durationMs(measured.eta) / 1000)));
  return parts.filter(Boolean).join(" · ");
}

/** The title of what the job stores. */
export function titleOf(job: Job): string {
  return job.displayName || job.url || job.id;
}

/** Whether a job can still be cancelled. */
export function isActive(job: Job): boolean {
  return job.state === JobState.QUEUED || job.state === JobState.RUNNING;
}

/** Whether a job can be retried. */
export function isRetryable(job: Job): boolean {
  return job.state === JobState.FAILED || job.state === JobState.CANCELLED;
}
