/**
 * The error of calls and jobs. Errors of Connect are translated in this module only.
 *
 * There is one class: programs decide by `reason`, whose names the compiler checks.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "./v1/google/rpc/error_details_pb.js";
import type { Status } from "./v1/google/rpc/status_pb.js";
import { type Job, JobState } from "./v1/ingot/v1/job_pb.js";
import type { Reason } from "./v1/ingot/v1/reason_pb.js";

const DOMAIN = "ingot.v1";

/** The name of a value of `Reason`, such as `MEDIA_DOES_NOT_EXIST`. */
export type ReasonName = Exclude<keyof typeof Reason, "UNSPECIFIED">;

/** The fields of an IngotError other than its message. */
interface Facts {
  code: Code;
  reason: ReasonName | "";
  metadata: Readonly<Record<string, string>>;
  violations: Readonly<Record<string, string>>;
  retryDelayMs: number | undefined;
}

/** The error of a call or a job. `message` says what happened and what to do. */
export class IngotError extends Error {
  override readonly name = "IngotError";
  /** The gRPC code. */
  readonly code: Code;
  /** Why, from the closed list of the contract. Empty if the error does not come from Ingot. */
  readonly reason: ReasonName | "";
  /** The keys that the reason documents, such as `host` for ADDRESS_FORBIDDEN. */
  readonly metadata: Readonly<Record<string, string>>;
  /** What is wrong with the request, by the path of the field. */
  readonly violations: Readonly<Record<string, string>>;
  /** How long to wait before another attempt. Undefined if another attempt does not help. */
  readonly retryDelayMs: number | undefined;

  constructor(message: string, facts: Partial<Facts> = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = facts.code ?? Code.Unknown;
    this.reason = facts.reason ?? "";
    this.metadata = facts.metadata ?? {};
    this.violations = facts.violations ?? {};
    this.retryDelayMs = facts.retryDelayMs;
  }
}

/** Return the error for a status, such as `Job.error` or `ResolveResponse.selectionError`. */
export function fromStatus(status: Status): IngotError {
  // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment -- it was looked up
  const code: Code = status.code in Code ? status.code : Code.Unknown;
  return new IngotError(
    status.message,
    readDetails(code, (schema) => {
      const details = status.details.map((detail) => anyUnpack(detail, schema));
      return details.filter((detail) => detail !== undefined);
    }),
  );
}

/** Return why a job failed or was cancelled. Undefined if it was not. */
export function errorOf(job: Job): IngotError | undefined {
  if (job.error !== undefined) return fromStatus(job.error);
  if (job.state !== JobState.CANCELLED) return undefined;
  const facts = { code: Code.Canceled, reason: "CANCELLED" } as const;
  return new IngotError("The job was cancelled.", facts);
}

/** Return the error for what a call of Connect threw. */
export function fromCall(thrown: unknown): IngotError {
  if (thrown instanceof IngotError) return thrown;
  const error = ConnectError.from(thrown);
  if (isUnreachable(error)) {
    const message = `Cannot reach the server: ${causeOf(error)}.`;
    return new IngotError(message, { code: Code.Unavailable }, { cause: error });
  }
  const facts = readDetails(error.code, (schema) => error.findDetails(schema));
  return new IngotError(error.rawMessage || Code[error.code], facts, { cause: error });
}

/** Return whether a call was interrupted on its way, so that another one may succeed. */
export function isInterrupted(error: IngotError): boolean {
  return isUnavailable(error) || (error.reason === "" && INTERRUPTED.has(error.code));
}

/** Return whether the server cannot answer now, but another one, or the same one soon, can. */
export function isUnavailable(error: IngotError): boolean {
  return error.code === Code.Unavailable || error.reason === "TOO_MANY_CALLS";
}

const INTERRUPTED: ReadonlySet<Code> = new Set([
  Code.Canceled,
  Code.DataLoss,
  Code.DeadlineExceeded,
  Code.Internal,
  Code.Unknown,
]);

type FindDetails = <Desc extends DescMessage>(schema: Desc) => MessageShape<Desc>[];

function readDetails(code: Code, find: FindDetails): Facts {
  const info = find(ErrorInfoSchema).find((detail) => detail.domain === DOMAIN);
  const violations = find(BadRequestSchema).flatMap((detail) => detail.fieldViolations);
  const delay = find(RetryInfoSchema)[0]?.retryDelay;
  return {
    code,
    reason: (info?.reason ?? "") as ReasonName | "",
    metadata: info?.metadata ?? {},
    violations: Object.fromEntries(violations.map((each) => [each.field, each.description])),
    retryDelayMs: delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6,
  };
}

/** Return whether fetch failed: it throws a TypeError for every failure of the network. */
function isUnreachable(error: ConnectError): boolean {
  return error.code === Code.Unknown && error.cause instanceof TypeError;
}

/** Return what Node says about a failure of the network; a browser hides it from the page. */
function causeOf(error: ConnectError): string {
  const { cause } = error.cause as TypeError;
  return cause instanceof Error && cause.message ? cause.message : error.rawMessage;
}
