/** The watch of all jobs against a server in the same process whose clock the tests turn. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { Client } from "./client.js";
import type { JobsEvent } from "./jobs.js";
import { ErrorInfoSchema } from "./v1/google/rpc/error_details_pb.js";
import { JobService, WatchJobsResponseSchema } from "./v1/ingot/v1/job_service_pb.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

type Response = MessageInitShape<typeof WatchJobsResponseSchema>;

const job = (id: string, revision: bigint, epoch = 1n): Response => ({
  event: { case: "job", value: { id, revision, epoch } },
  resumeToken: `after ${id} ${epoch}.${revision}`,
});
const heartbeat: Response = { event: { case: "heartbeat", value: {} }, resumeToken: "beat" };
const end: Response = { event: { case: "snapshotEnd", value: {} }, resumeToken: "end" };

/** What one call sends: responses, and at last an error or silence for ever. */
type Script = (Response | Error | "silence")[];

function refusal(code: Code, reason: string): ConnectError {
  const info = { desc: ErrorInfoSchema, value: { domain: "ingot.v1", reason } };
  return new ConnectError("refused", code, undefined, [info]);
}

/** Watch a server that follows one script for each call. Returns also the tokens that it got. */
function watch(...scripts: Script[]): [AsyncGenerator<JobsEvent>, string[]] {
  const tokens: string[] = [];
  const transport = createRouterTransport(({ service }) => {
    service(JobService, {
      async *watchJobs(request) {
        tokens.push(request.resumeToken);
        for (const step of scripts.shift() ?? ["silence"]) {
          if (step === "silence") await new Promise(() => undefined);
          else if (step instanceof Error) throw step;
          else yield create(WatchJobsResponseSchema, step);
        }
      },
    });
  });
  return [new Client("http://localhost", { transport }).watchJobs(), tokens];
}

/** Return the next events, in short, while the clock runs. */
async function take(events: AsyncGenerator<JobsEvent>, count: number): Promise<string[]> {
  const taken: string[] = [];
  while (taken.length < count) {
    const next = events.next();
    await vi.advanceTimersByTimeAsync(60_000);
    const { value } = (await next) as { value: JobsEvent };
    if (value.type === "connected") taken.push(value.resumed ? "resumed" : "connected");
    else if (value.type === "job") taken.push(`${value.job.id}@${value.job.revision}`);
    else taken.push(value.type);
  }
  return taken;
}

const lost = new ConnectError("lost", Code.Unavailable);

test("a lost watch goes on from its last token, and what is repeated is not news", async () => {
  const [events, tokens] = watch([job("a", 1n), end, lost], [job("a", 1n), job("a", 2n)]);
  const expected = ["connected", "a@1", "snapshotEnd", "disconnected", "resumed", "a@2"];
  expect(await take(events, expected.length)).toEqual(expected);
  expect(tokens).toEqual(["", "end"]);
});

test("a heartbeat is no event, but its token counts", async () => {
  const [events, tokens] = watch([end, heartbeat, lost], [heartbeat, job("a", 1n)]);
  const expected = ["connected", "snapshotEnd", "disconnected", "resumed", "a@1"];
  expect(await take(events, expected.length)).toEqual(expected);
  expect(tokens).toEqual(["", "beat"]);
});

test("with an expired token the watch begins again, with all jobs", async () => {
  const expired = refusal(Code.FailedPrecondition, "RESUME_TOKEN_EXPIRED");
  const [events, tokens] = watch([job("a", 1n), lost], [expired], [job("a", 1n), end]);
  const expected = ["connected", "a@1", "disconnected", "connected", "a@1", "snapshotEnd"];
  expect(await take(events, expected.length)).toEqual(expected);
  expect(tokens).toEqual(["", "after a 1.1", ""]);
});

test("a silent connection is dead after 30 seconds, and says since when", async () => {
  const [events] = watch([end, "silence"], [end]);
  const heard = Date.now();
  await take(events, 2);
  const next = events.next();
  let isKnown = false;
  void next.then(() => (isKnown = true));
  await vi.advanceTimersByTimeAsync(29_000);
  expect(isKnown).toBe(false);
  await vi.advanceTimersByTimeAsync(1_000);
  const { value } = (await next) as { value: Extract<JobsEvent, { type: "disconnected" }> };
  expect(value.type).toBe("disconnected");
  expect(value.since.getTime()).toBe(heard);
  expect(value.error.message).toContain("nothing for 30 s");
});

test("a reader that takes its time is not disconnected", async () => {
  const [events] = watch([job("a", 1n), job("b", 1n), "silence"]);
  expect(await take(events, 3)).toEqual(["connected", "a@1", "b@1"]);
});

test("states after a loss of the server's last changes are later, whatever their revision", async () => {
  const [events] = watch([job("a", 9n), job("a", 3n, 2n)]);
  expect(await take(events, 3)).toEqual(["connected", "a@9", "a@3"]);
});

test("a refusal that another attempt does not change ends the watch", async () => {
  const [events] = watch([refusal(Code.InvalidArgument, "INVALID_REQUEST")]);
  await expect(events.next()).rejects.toMatchObject({ reason: "INVALID_REQUEST" });
});
