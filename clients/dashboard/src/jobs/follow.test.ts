import { create } from "@bufbuild/protobuf";
import { type Job, JobSchema, JobState } from "@ingot/client/v1";
import { expect, test, vi } from "vitest";

vi.mock("../connection/client", () => ({ client: {} }));

import { follow } from "./follow";
import { jobStore } from "./store.svelte";

let ids = 0;
const newId = () => `job-${String((ids += 1))}`;
const jobAt = (id: string, revision: number, state = JobState.RUNNING) =>
  create(JobSchema, { id, revision: BigInt(revision), state });

async function revisions(jobs: AsyncGenerator<Job>): Promise<number[]> {
  const found: number[] = [];
  for await (const job of jobs) found.push(Number(job.revision));
  return found;
}

test("a followed job is yielded as the stream changes it, and ends with its end", async () => {
  const id = newId();
  const followed = revisions(follow(jobAt(id, 1), new AbortController().signal));
  await Promise.resolve();
  jobStore.receive(jobAt(newId(), 9));
  jobStore.receive(jobAt(id, 3));
  await new Promise((resolve) => setTimeout(resolve));
  jobStore.receive(jobAt(id, 2));
  jobStore.receive(jobAt(id, 4, JobState.SUCCEEDED));
  expect(await followed).toEqual([1, 3, 4]);
});

test("what the stream brought before the answer to the call counts", async () => {
  const id = newId();
  jobStore.receive(jobAt(id, 5, JobState.FAILED));
  expect(await revisions(follow(jobAt(id, 1), new AbortController().signal))).toEqual([5]);
});

test("a job whose record expires is followed no longer", async () => {
  const id = newId();
  const followed = revisions(follow(jobAt(id, 1), new AbortController().signal));
  await Promise.resolve();
  jobStore.remove(id);
  expect(await followed).toEqual([1]);
});

test("an aborted signal ends the following with its reason", async () => {
  const controller = new AbortController();
  const followed = revisions(follow(jobAt(newId(), 1), controller.signal));
  await Promise.resolve();
  controller.abort(new Error("left"));
  await expect(followed).rejects.toThrow("left");
});
