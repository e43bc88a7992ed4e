import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { beforeAll, expect, test } from "vitest";

import { Client, JobState, type UploadProgress } from "../src/index.js";
import { relayTo } from "./relay.js";
import { ADDRESS, setting } from "./server.js";

const MIB = 1 << 20;
const client = new Client(ADDRESS);
let clip: Buffer<ArrayBuffer>;

beforeAll(async () => {
  clip = Buffer.from(await readFile(setting("INGOT_TEST_CLIP")));
});

/** Return a file of its own content: a clip, and after it a box that players skip. */
function film(sizeBytes: number): File {
  const box = Buffer.alloc(sizeBytes - clip.length);
  box.writeUInt32BE(box.length);
  box.write("free", 4);
  randomBytes(16).copy(box, 8);
  return new File([clip, box], "film.mp4", { type: "video/mp4" });
}

test("a file is stored under its name, and its progress ends with its size", async () => {
  const file = film(2 * MIB);
  const reports: UploadProgress[] = [];
  const job = await client.upload(file, { onProgress: (each) => reports.push(each) });
  const { media } = await job.wait();
  expect(job.latest.displayName).toBe("film.mp4");
  expect(media?.blob?.sizeBytes).toBe(BigInt(file.size));
  expect(reports.at(0)).toMatchObject({ stage: "hashing" });
  expect(reports.at(-1)).toEqual({ stage: "sending", doneBytes: file.size, totalBytes: file.size });

  const again = await client.upload(file);
  expect(again.latest.state).toBe(JobState.SUCCEEDED);
});

test("an upload that was broken off goes on where it stopped", async () => {
  const file = film(36 * MIB);
  const controller = new AbortController();
  const onProgress = ({ stage, doneBytes }: UploadProgress) => {
    if (stage === "sending" && doneBytes >= 16 * MIB) controller.abort(new Error("broken"));
  };
  const broken = client.upload(file, { onProgress, signal: controller.signal });
  await expect(broken).rejects.toThrow("broken");

  const sent: number[] = [];
  const job = await client.upload(file, {
    onProgress: ({ stage, doneBytes }) => stage === "sending" && sent.push(doneBytes),
  });
  expect(sent[0]).toBeGreaterThanOrEqual(8 * MIB);
  expect((await job.wait()).media?.blob?.sizeBytes).toBe(BigInt(file.size));
});

test("an upload survives cut connections to the server", async () => {
  const relay = await relayTo(ADDRESS);
  try {
    const file = film(36 * MIB);
    const job = await new Client(relay.address).upload(file, { onProgress: relay.cut });
    expect((await job.wait()).media?.blob?.sizeBytes).toBe(BigInt(file.size));
  } finally {
    relay.close();
  }
});

test("a file whose media was deleted is stored again", async () => {
  const file = film(MIB);
  const first = await (await client.upload(file)).wait();
  await client.deleteMedia(first.media?.id ?? "");
  const second = await (await client.upload(file)).wait();
  expect((await client.media(second.media?.id ?? "")).blob?.sha256).toBe(first.media?.blob?.sha256);
});

test("what is made of a file is what its upload asks for", async () => {
  const recipes = [{ format: { case: "mp3", value: {} } } as const];
  const job = await client.upload(film(MIB), { recipes, labels: { upload: "mp3" } });
  const { conversions, labels } = await job.wait();
  expect(conversions.map((each) => each.blob?.contentType)).toEqual(["audio/mpeg"]);
  expect(labels).toEqual({ upload: "mp3" });
});

test("a file that is not media fails with a reason, and may be uploaded again", async () => {
  const file = new File([randomBytes(1000)], "noise.mp4");
  for (let attempt = 0; attempt < 2; attempt++) {
    const job = await client.upload(file);
    await expect(job.wait()).rejects.toMatchObject({ reason: "NOT_MEDIA" });
  }
});
