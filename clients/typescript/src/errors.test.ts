import { create, toBinary } from "@bufbuild/protobuf";
import { anyPack, durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";

import { errorOf, fromCall, fromStatus, isInterrupted } from "./errors.js";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./v1/google/rpc/error_details_pb.js";
import { StatusSchema } from "./v1/google/rpc/status_pb.js";
import { JobSchema, JobState } from "./v1/ingot/v1/job_pb.js";

const info = create(ErrorInfoSchema, {
  domain: "ingot.v1",
  reason: "ADDRESS_FORBIDDEN",
  metadata: { host: "10.0.0.1" },
});
const request = create(BadRequestSchema, {
  fieldViolations: [{ field: "url", description: "is private" }],
});
const retry = create(RetryInfoSchema, { retryDelay: durationFromMs(1500) });

const status = create(StatusSchema, {
  code: Code.PermissionDenied,
  message: "No.",
  details: [
    anyPack(ErrorInfoSchema, info),
    anyPack(BadRequestSchema, request),
    anyPack(RetryInfoSchema, retry),
  ],
});

const decoded = {
  message: "No.",
  code: Code.PermissionDenied,
  reason: "ADDRESS_FORBIDDEN",
  metadata: { host: "10.0.0.1" },
  violations: { url: "is private" },
  retryDelayMs: 1500,
};

test("the error of a job says all that its status says", () => {
  expect(fromStatus(status)).toMatchObject(decoded);
  const job = create(JobSchema, { state: JobState.FAILED, error: status });
  expect(errorOf(job)).toMatchObject(decoded);
});

test("a job that has not failed has no error", () => {
  expect(errorOf(create(JobSchema, { state: JobState.SUCCEEDED }))).toBeUndefined();
});

test("a cancelled job has an error, also without a status", () => {
  const error = errorOf(create(JobSchema, { state: JobState.CANCELLED }));
  expect(error).toMatchObject({ reason: "CANCELLED", code: Code.Canceled });
});

test("the error of a call says all that its details say", () => {
  const failed = new ConnectError("No.", Code.PermissionDenied);
  failed.details = [
    { type: "google.rpc.ErrorInfo", value: toBinary(ErrorInfoSchema, info) },
    { type: "google.rpc.BadRequest", value: toBinary(BadRequestSchema, request) },
    { type: "google.rpc.RetryInfo", value: toBinary(RetryInfoSchema, retry) },
  ];
  expect(fromCall(failed)).toMatchObject(decoded);
});

test("details of other programs give no reason", () => {
  const foreign = create(ErrorInfoSchema, { domain: "example.com", reason: "TEAPOT" });
  const failed = new ConnectError("No.", Code.Internal);
  failed.details = [
    { type: "google.rpc.ErrorInfo", value: toBinary(ErrorInfoSchema, foreign) },
    { type: "google.rpc.BadRequest", value: Uint8Array.of(255) },
  ];
  expect(fromCall(failed)).toMatchObject({ reason: "", metadata: {}, violations: {} });
});

describe("a failure of the network", () => {
  test("is told as the system tells it", () => {
    const cause = new Error("connect ECONNREFUSED 127.0.0.1:1");
    const error = fromCall(new TypeError("fetch failed", { cause }));
    expect(error.code).toBe(Code.Unavailable);
    expect(error.message).toContain("ECONNREFUSED");
  });

  test("counts as an interruption, and a refusal by Ingot does not", () => {
    expect(isInterrupted(fromCall(new TypeError("Failed to fetch")))).toBe(true);
    expect(isInterrupted(fromCall(new ConnectError("cut", Code.DataLoss)))).toBe(true);
    expect(isInterrupted(fromStatus(status))).toBe(false);
  });
});
