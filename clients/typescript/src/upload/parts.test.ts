import { expect, test } from "vitest";

import { missingParts, partSize } from "./parts.js";

const MIB = 1 << 20;

test.each([
  [
    "nothing is stored",
    25,
    [],
    [
      [0, 10],
      [10, 10],
      [20, 5],
    ],
  ],
  ["all is stored", 25, [[0, 25]], []],
  [
    "the end is missing",
    25,
    [[0, 12]],
    [
      [12, 10],
      [22, 3],
    ],
  ],
  [
    "there is a gap",
    30,
    [
      [0, 10],
      [20, 10],
    ],
    [[10, 10]],
  ],
  ["the beginning is missing", 30, [[10, 20]], [[0, 10]]],
  [
    "a small gap is one part",
    30,
    [
      [0, 10],
      [13, 17],
    ],
    [[10, 3]],
  ],
] as [string, number, [number, number][], [number, number][]][])(
  "what is not stored is sent: %s",
  (_, size, stored, parts) => {
    const range = ([offset, sizeBytes]: [number, number]) => ({ offset, sizeBytes });
    expect(missingParts(size, stored.map(range), 10)).toEqual(parts.map(range));
  },
);

test("parts are small, and few enough for the largest files", () => {
  expect(partSize(200 * MIB)).toBe(8 * MIB);
  expect(partSize(20_000 * MIB)).toBe(20 * MIB);
  expect(partSize(500_000 * MIB)).toBe(64 * MIB);
});
