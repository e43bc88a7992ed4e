import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { throttled } from "./throttled";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("many requests share a run, and nothing runs without a request", async () => {
  const run = vi.fn(() => Promise.resolve());
  const request = throttled(run, 1000);
  request();
  request();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(run).toHaveBeenCalledTimes(1);
});

test("runs begin at least a period apart, however often they are requested", async () => {
  const run = vi.fn(() => Promise.resolve());
  const request = throttled(run, 1000);
  for (let time = 0; time < 5000; time += 100) {
    request();
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(run).toHaveBeenCalledTimes(5);
});

test("what is requested while a run is on its way, or just after, has a run of its own", async () => {
  const seen: string[] = [];
  let state = "before";
  const request = throttled(async () => {
    seen.push(state);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }, 1000);
  request();
  await vi.advanceTimersByTimeAsync(550);
  state = "changed during the run";
  request();
  await vi.advanceTimersByTimeAsync(150);
  state = "changed after the run";
  request();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(seen).toEqual(["before", "changed after the run"]);
});
