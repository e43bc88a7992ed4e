import type { Socket } from "node:net";

import { afterEach, beforeEach, expect, test } from "vitest";

import { Client, hasEnded, type JobsEvent, JobState } from "../src/index.js";
import { type Relay, relayTo } from "./relay.js";
import { ADDRESS, originUrl } from "./server.js";

let relay: Relay;
let client: Client;
let controller: AbortController;

beforeEach(async () => {
  relay = await relayTo(ADDRESS);
  client = new Client(relay.address);
  controller = new AbortController();
});

afterEach(() => {
  controller.abort();
  relay.close();
});

/** Return the next event of a type; jobs that other tests made may come before it. */
async function next<T extends JobsEvent["type"]>(
  events: AsyncGenerator<JobsEvent>,
  type: T,
): Promise<Extract<JobsEvent, { type: T }>> {
  for (;;) {
    const { value } = (await events.next()) as { value: JobsEvent };
    if (value.type === type) return value as Extract<JobsEvent, { type: T }>;
  }
}

test("a watch of all jobs goes on after a cut, says since when it is stale, and loses nothing", async () => {
  const labels = { watch: "cut" };
  const events = client.watchJobs({ labels, signal: controller.signal });
  expect((await next(events, "connected")).resumed).toBe(false);
  await next(events, "snapshotEnd");

  const before = Date.now();
  relay.cut();
  const lost = await next(events, "disconnected");
  expect(lost.since.getTime()).toBeLessThanOrEqual(Date.now());
  expect(before - lost.since.getTime()).toBeLessThan(20_000);
  const job = await new Client(ADDRESS).ingest(originUrl("/clip.mp4?watch-cut"), { labels });
  await job.wait();

  expect((await next(events, "connected")).resumed).toBe(true);
  const states: JobState[] = [];
  while (!states.includes(JobState.SUCCEEDED)) {
    const event = await next(events, "job");
    expect(event.job.id).toBe(job.id);
    states.push(event.job.state);
  }
  expect([...states].sort()).toEqual(states);
});

test("a watch that resumes says at once that it is connected, also if nothing happened", async () => {
  const labels = { watch: "nothing" };
  const events = client.watchJobs({ labels, signal: controller.signal });
  await next(events, "snapshotEnd");
  relay.cut();
  await next(events, "disconnected");
  const begin = Date.now();
  expect((await next(events, "connected")).resumed).toBe(true);
  // Heartbeats come after 15 seconds of silence.
  expect(Date.now() - begin).toBeLessThan(12_000);
});

test("the watch of a job survives cuts, and repeats no state", async () => {
  const job = await client.ingest(originUrl("/slow.mp4?watch-cut"));
  const revisions: bigint[] = [];
  for await (const update of job) {
    revisions.push(update.revision);
    if (revisions.length % 4 === 0 && !hasEnded(update)) relay.cut();
  }
  expect(job.latest.state).toBe(JobState.SUCCEEDED);
  expect([...new Set(revisions)].sort((a, b) => Number(a - b))).toEqual(revisions);
});

test("an aborted signal ends a watch that waits, with its reason", async () => {
  const events = client.watchJobs({ labels: { watch: "none" }, signal: controller.signal });
  await next(events, "snapshotEnd");
  const waiting = events.next();
  controller.abort(new Error("enough"));
  await expect(waiting).rejects.toThrow("enough");
  expect((await events.next()).done).toBe(true);
});

test("a watch gives up after its time limit if that is set", async () => {
  const events = client.watchJobs({ reconnectTimeoutMs: 500, signal: controller.signal });
  await next(events, "snapshotEnd");
  relay.close();
  await expect(next(events, "snapshotEnd")).rejects.toThrow("Cannot reach the server");
});

test("leaving the loop closes the connection", async () => {
  let open: Socket[] = [];
  for await (const event of client.watchJobs()) {
    open = relay.connections();
    if (event.type === "snapshotEnd") break;
  }
  expect(open).toHaveLength(1);
  // Node opens another one for later calls.
  await expect.poll(() => open[0]?.closed, { timeout: 10_000 }).toBe(true);
});
