import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { JobSchema, JobStage, JobState, JobWaiting_Cause } from "@ingot/client/v1";
import { expect, test } from "vitest";

import type { Span } from "./history";
import { drawTimeLine } from "./timeline";

const at = (seconds: number) => timestampFromMs(seconds * 1000);
const span = (fields: Partial<Span>): Span => ({
  kind: "stage",
  stage: JobStage.DOWNLOADING,
  cause: undefined,
  attempt: 1,
  start: 0,
  end: undefined,
  ...fields,
});

test("a watched job is drawn without gaps, with its waits and retries", () => {
  const job = create(JobSchema, {
    state: JobState.SUCCEEDED,
    createTime: at(100),
    startTime: at(110),
    endTime: at(200),
  });
  const bars = drawTimeLine(
    job,
    [
      span({ kind: "wait", cause: JobWaiting_Cause.WORKER, start: 100_000, end: 110_000 }),
      span({ start: 110_000, end: 150_000 }),
      span({ kind: "wait", cause: JobWaiting_Cause.RETRY, start: 150_000, end: 160_000 }),
      span({ attempt: 2, start: 160_000, end: 200_000 }),
    ],
    999_000,
  );

  expect(bars.map(({ tone, start, width }) => [tone, start, width])).toEqual([
    ["queued", 0, 0.1],
    ["stage", 0.1, 0.4],
    ["retry", 0.5, 0.1],
    ["stage", 0.6, 0.4],
  ]);
  expect(bars.at(-1)?.label).toBe("Downloading, attempt 2");
});

test("what the page did not watch is drawn as such", () => {
  const job = create(JobSchema, {
    state: JobState.FAILED,
    createTime: at(0),
    startTime: at(10),
    endTime: at(100),
  });
  expect(drawTimeLine(job, [], 0).map((bar) => bar.tone)).toEqual(["queued", "unwatched"]);
});
