import { expect, test } from "vitest";

import {
  formatAge,
  formatBytes,
  formatLength,
  formatPercent,
  formatSpan,
  parseLength,
} from "./format";

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.0 KB"],
  [99_960, "100 KB"],
  [999_600, "1.0 MB"],
  [3_400_000n, "3.4 MB"],
  [2_000_000_000_000_000, "2000 TB"],
])("%s bytes are written %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, "0:00"],
  [205, "3:25"],
  [3723, "1:02:03"],
])("%s seconds of media are written %s", (seconds, text) => {
  expect(formatLength(seconds)).toBe(text);
});

test.each([
  [0.42, "0.4 s"],
  [12, "12 s"],
  [185, "3 min 5 s"],
  [7800, "2 h 10 min"],
])("a span of %s seconds is written %s", (seconds, text) => {
  expect(formatSpan(seconds)).toBe(text);
});

test("only what is done is written as 100%", () => {
  expect(formatPercent(0.9999)).toBe("99%");
  expect(formatPercent(1)).toBe("100%");
});

test.each([
  ["90", 90],
  ["1:30", 90],
  ["1:02:03.5", 3723.5],
  ["", undefined],
  ["1:2:3:4", undefined],
  ["-5", undefined],
  ["a", undefined],
])("%j is read as %s seconds", (text, seconds) => {
  expect(parseLength(text)).toBe(seconds);
});

test("an age is written in its largest unit", () => {
  const now = new Date("2026-11-29T10:00:00Z");
  expect(formatAge(new Date("2026-11-29T09:55:00Z"), now)).toBe("5m ago");
  expect(formatAge(new Date("2026-11-29T12:00:00Z"), now)).toBe("in 2h");
});
