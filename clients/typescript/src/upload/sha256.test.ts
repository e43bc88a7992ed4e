import { createHash } from "node:crypto";
import { expect, test } from "vitest";

import { Sha256, sha256Of } from "./sha256.js";

const bytes = (size: number) => Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) & 255);
const expected = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

test("every length around a block has the hash that other programs compute", () => {
  for (let size = 0; size <= 200; size++) {
    expect(new Sha256().update(bytes(size)).hex()).toBe(expected(bytes(size)));
  }
});

test("how the data is cut makes no difference", () => {
  const data = bytes(1000);
  for (const cut of [1, 7, 63, 64, 65, 128, 999]) {
    const hash = new Sha256();
    for (let at = 0; at < data.length; at += cut) hash.update(data.subarray(at, at + cut));
    expect(hash.hex()).toBe(expected(data));
  }
});

test("a file is read in pieces, and its progress ends with its size", async () => {
  const data = bytes((2 << 20) + 5);
  const progress: number[] = [];
  const hash = await sha256Of(new Blob([data]), (done) => progress.push(done));
  expect(hash).toBe(expected(data));
  expect(progress).toEqual([1 << 20, 2 << 20, data.length]);
});

test("an aborted signal ends the reading of a file", async () => {
  const signal = AbortSignal.abort(new Error("enough"));
  await expect(sha256Of(new Blob(["a"]), () => undefined, signal)).rejects.toThrow("enough");
});
