/** What both protocols do the same. */
import { describe, expect, test } from "vitest";

import { Client, IngotError, JobState } from "../src/index.js";
import { client, collect, originUrl } from "./server.js";

const MP3 = { format: { case: "mp3", value: {} } } as const;

describe.each(["Connect", "gRPC-Web"] as const)("over %s", (protocol) => {
  const ingot = client(protocol);

  async function errorOf(call: Promise<unknown>): Promise<IngotError> {
    const thrown: unknown = await call.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(thrown instanceof IngotError)) throw new Error(`not an IngotError: ${String(thrown)}`);
    return thrown;
  }

  test("progress comes while the media does, and then the media and its MP3", async () => {
    const job = await ingot.ingest(originUrl(`/slow.mp4?${protocol}`), { recipes: [MP3] });
    const fractions = new Set<number>();
    for await (const update of job) {
      if (update.state === JobState.RUNNING) fractions.add(update.progress?.fraction ?? 0);
    }
    expect([...fractions].filter((each) => each > 0 && each < 1).length).toBeGreaterThan(3);

    const { media, conversions } = await job.wait();
    expect(conversions.map((each) => each.blob?.contentType)).toEqual(["audio/mpeg"]);
    expect((await ingot.media(media?.id ?? "")).blob?.sha256).toBe(media?.blob?.sha256);
    const { url } = await ingot.downloadUrl(media?.id ?? "");
    const file = await (await fetch(url)).arrayBuffer();
    expect(BigInt(file.byteLength)).toBe(media?.blob?.sizeBytes);
  });

  test("a request that breaks a rule says which field and how", async () => {
    const error = await errorOf(ingot.ingest("file:///etc/passwd"));
    expect(error.reason).toBe("UNSUPPORTED_URL");
    expect(error.message).toContain("http");
    expect(Object.keys(error.violations)).toEqual(["url"]);
  });

  test("an error has the metadata of its reason", async () => {
    const error = await errorOf(ingot.ingest("http://10.0.0.1/clip.mp4"));
    expect(error).toMatchObject({ reason: "ADDRESS_FORBIDDEN", metadata: { host: "10.0.0.1" } });
  });

  test("the error of a job has the reason of its source", async () => {
    const job = await ingot.ingest(originUrl(`/gone.mp4?${protocol}`)).catch((error: unknown) => {
      expect(error).toMatchObject({ reason: "MEDIA_DOES_NOT_EXIST" });
    });
    if (job) expect((await errorOf(job.wait())).reason).toBe("MEDIA_DOES_NOT_EXIST");
  });

  test("what is unknown has a reason too", async () => {
    expect((await errorOf(ingot.job("0".repeat(26)))).reason).toBe("JOB_NOT_FOUND");
    expect((await errorOf(ingot.media(originUrl("/never")))).reason).toBe("MEDIA_NOT_FOUND");
  });

  test("jobs and media are listed by label", async () => {
    const labels = { protocol: protocol.toLowerCase() };
    const job = await ingot.ingest(originUrl(`/clip.mp4?list-${protocol}`), { labels });
    const { media } = await job.wait();
    const jobs = await collect(ingot.jobs({ labels }));
    expect(jobs.map((each) => each.id)).toEqual([job.id]);
    const listed = await collect(ingot.listMedia({ labels }));
    expect(listed.map((each) => each.id)).toEqual([media?.id]);
  });

  test("a media item is changed and deleted", async () => {
    const job = await ingot.ingest(originUrl(`/clip.mp4?change-${protocol}`));
    const id = (await job.wait()).media?.id ?? "";
    const changed = await ingot.updateMedia(id, { title: "Renamed", tags: ["a", "b"] });
    expect(changed).toMatchObject({ title: "Renamed", tags: ["a", "b"] });
    await ingot.deleteMedia(id);
    expect((await errorOf(ingot.media(id))).reason).toBe("MEDIA_NOT_FOUND");
    await ingot.deleteMedia(id, { allowMissing: true });
  });

  test("a job is cancelled and retried, alone and with all that match", async () => {
    const labels = { cancelled: protocol.toLowerCase() };
    const job = await ingot.ingest(originUrl(`/stuck.mp4?${protocol}`), { labels });
    expect((await job.cancel()).state).toBe(JobState.CANCELLED);
    expect(job.error?.reason).toBe("CANCELLED");
    const again = await ingot.retry(job.id);
    expect(again.id).not.toBe(job.id);
    const running = [JobState.QUEUED, JobState.RUNNING];
    expect(await ingot.cancelAll({ labels, states: running })).toBe(1);
    expect((await errorOf(again.wait())).reason).toBe("CANCELLED");
    const retried = await ingot.retryAll({ labels, states: [JobState.CANCELLED] });
    expect(retried.retriedCount).toBeGreaterThan(0);
    await ingot.cancelAll({ labels, states: running });
  });

  test("each of many URLs has its own result", async () => {
    const urls = [originUrl(`/clip.mp4?all-${protocol}`), "file:///etc/passwd"];
    const [job, refused] = await ingot.ingestAll(urls.map((url) => ({ url })));
    expect(job).toMatchObject({ latest: { url: urls[0] } });
    expect(refused).toMatchObject({ reason: "UNSUPPORTED_URL" });
  });

  test("an address without a server says so", async () => {
    const error = await errorOf(new Client("http://127.0.0.1:9", { timeoutMs: 300 }).sources());
    expect(error.message).toContain("Cannot reach the server");
  });

  test("sources and the system describe themselves", async () => {
    expect((await ingot.sources()).map((source) => source.name)).toContain("http");
    expect((await ingot.system()).workers.length).toBeGreaterThan(0);
  });

  test("a URL is resolved without storing anything", async () => {
    const { media, stored } = await ingot.resolve(originUrl(`/clip.mp4?resolve-${protocol}`));
    expect(media?.id).toHaveLength(52);
    expect(stored).toBe(false);
  });
});
