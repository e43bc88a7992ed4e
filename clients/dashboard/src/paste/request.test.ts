import { expect, test } from "vitest";

import { hasValidTimes, recipeOf, type Wish } from "./request";

const wish: Wish = {
  what: "clip",
  from: "",
  to: "",
  whole: false,
  subtitles: "",
  automatic: false,
  recordMinutes: 60,
};

test.each([
  ["1:00", "1:30", true],
  ["", "30", true],
  ["30", "", true],
  ["", "", false],
  ["30", "30", false],
  ["40", "30", false],
  ["x", "30", false],
])("a clip from %j to %j is possible: %s", (from, to, valid) => {
  expect(hasValidTimes({ ...wish, from, to })).toBe(valid);
});

test("a clip has its times, and nothing else has any", () => {
  expect(recipeOf({ ...wish, from: "1:00", to: "1:30" })).toMatchObject({
    format: { case: "mp4" },
    startOffset: { seconds: 60n },
    endOffset: { seconds: 90n },
  });
  expect(recipeOf({ ...wish, what: "mp3", from: "1:00" })).toEqual({
    format: { case: "mp3", value: {} },
  });
  expect(recipeOf({ ...wish, what: "media" })).toBeUndefined();
});
