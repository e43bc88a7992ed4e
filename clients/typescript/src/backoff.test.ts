import { expect, test } from "vitest";

import { Backoff } from "./backoff.js";

test("the delay doubles up to a limit, and begins again after a success", () => {
  const backoff = new Backoff(() => 1);
  const delays = Array.from({ length: 8 }, () => backoff.next());
  expect(delays).toEqual([100, 200, 400, 800, 1600, 3200, 5000, 5000]);
  backoff.reset();
  expect(backoff.next()).toBe(100);
});

test("jitter takes away at most half, so that clients do not come back all at once", () => {
  expect(new Backoff(() => 0).next()).toBe(50);
});

test("the delay is not shorter than what the server asks for", () => {
  expect(new Backoff(() => 1).next(7000)).toBe(7000);
});

test("an aborted signal ends the wait at once, with its reason", async () => {
  const controller = new AbortController();
  const wait = new Backoff().wait(60_000, controller.signal);
  controller.abort(new Error("enough"));
  await expect(wait).rejects.toThrow("enough");
});
