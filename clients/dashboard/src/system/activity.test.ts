import { create } from "@bufbuild/protobuf";
import { JobSchema, JobState } from "@ingot/client/v1";
import { expect, test } from "vitest";
import { activityOf, appended, linePoints } from "./activity";

const running = (source: string, bytesPerSecond: number, children?: object) =>
  create(JobSchema, {
    state: JobState.RUNNING,
    media: { source: { name: source } },
    progress: { stage: { bytesPerSecond } },
    ...(children && { children }),
  });

test("a source does what its running jobs do, and a list does nothing besides its entries", () => {
  const jobs = [
    running("http", 10),
    running("http", 5),
    running("youtube", 7),
    running("youtube", 7, { total: 1 }),
    create(JobSchema, { state: JobState.QUEUED, media: { source: { name: "telegram" } } }),
  ];
  expect(Object.fromEntries(activityOf(jobs))).toEqual({
    http: { running: 2, rate: 15 },
    youtube: { running: 1, rate: 7 },
  });
});

test("a history keeps its latest values", () => {
  expect(appended([1, 2, 3], 4, 3)).toEqual([2, 3, 4]);
  expect(appended([], 1, 3)).toEqual([1]);
});

test("a line ends at the right, and its greatest value touches the top", () => {
  expect(linePoints([0, 2, 4], 5, 100, 20)).toBe("50,20 75,10 100,0");
  expect(linePoints([0], 5, 100, 20)).toBe("100,20");
});
