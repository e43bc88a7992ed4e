import { expect, test } from "vitest";

import { Speed } from "./speed";

test("the speed is that of the last seconds", () => {
  const speed = new Speed();
  speed.begin(0, 0);
  expect(speed.measure(100, 100)).toBe(0);
  expect(speed.measure(1000, 1000)).toBe(1000);
  for (let second = 2; second <= 20; second += 1) speed.measure(1000 + second, second * 1000);
  expect(speed.measure(1021, 21_000)).toBeLessThan(2);
});

test("what was there before does not count, and nothing goes backwards", () => {
  const speed = new Speed();
  speed.begin(1_000_000, 0);
  expect(speed.measure(1_000_500, 1000)).toBe(500);
  expect(speed.measure(0, 2000)).toBe(0);
});
