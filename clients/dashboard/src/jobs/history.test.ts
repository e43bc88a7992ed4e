import { create } from "@bufbuild/protobuf";
import { JobSchema, JobStage, JobState, JobWaiting_Cause } from "@ingot/client/v1";
import { expect, test } from "vitest";

import { extendHistory, type Span } from "./history";

const running = (stage: JobStage, attempt = 1) =>
  create(JobSchema, { state: JobState.RUNNING, stage, attempt });

test("stages, waits and attempts follow each other without a gap", () => {
  const wait = create(JobSchema, {
    state: JobState.QUEUED,
    attempt: 1,
    waiting: { cause: JobWaiting_Cause.RETRY },
  });
  const states = [
    running(JobStage.RESOLVING),
    running(JobStage.DOWNLOADING),
    running(JobStage.DOWNLOADING),
    wait,
    running(JobStage.DOWNLOADING, 2),
    create(JobSchema, { state: JobState.SUCCEEDED }),
  ];
  let history: readonly Span[] = [];
  states.forEach((job, index) => (history = extendHistory(history, job, index * 10)));

  expect(history.map(({ kind, stage, start, end }) => [kind, stage, start, end])).toEqual([
    ["stage", JobStage.RESOLVING, 0, 10],
    ["stage", JobStage.DOWNLOADING, 10, 30],
    ["wait", JobStage.UNSPECIFIED, 30, 40],
    ["stage", JobStage.DOWNLOADING, 40, 50],
  ]);
});

test("progress alone adds nothing", () => {
  const history = extendHistory([], running(JobStage.DOWNLOADING), 0);
  expect(extendHistory(history, running(JobStage.DOWNLOADING), 5)).toBe(history);
});
