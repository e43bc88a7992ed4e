/** What the methods of the client accept. */
import type { Transport } from "@connectrpc/connect";

import type { CallOptions } from "./connection.js";
import type { Fields } from "./request.js";
import type {
  ConvertRequestSchema,
  IngestRequestSchema,
  ResolveRequestSchema,
} from "./v1/ingot/v1/ingest_service_pb.js";
import type { ListJobsRequestSchema } from "./v1/ingot/v1/job_service_pb.js";
import type { MediaSchema } from "./v1/ingot/v1/media_pb.js";
import type {
  DeleteMediaRequestSchema,
  GetMediaRequestSchema,
  CreateDownloadUrlRequestSchema,
  GetStoryboardRequestSchema,
  ListMediaRequestSchema,
  UpdateMediaRequestSchema,
} from "./v1/ingot/v1/media_service_pb.js";

/** The fields of a media item that callers may change, and their paths. */
export const CHANGEABLE = {
  title: "title",
  description: "description",
  tags: "tags",
  labels: "labels",
  expireTime: "expire_time",
  pinned: "pinned",
} as const;

export type MediaChanges = Partial<Pick<Fields<typeof MediaSchema>, keyof typeof CHANGEABLE>>;

export interface ClientOptions {
  /** Sent as `authorization: Bearer TOKEN`; without TLS only to this machine. */
  token?: string | undefined;
  /** Send the token without TLS to other machines too. */
  allowPlaintextToken?: boolean | undefined;
  /** Sent with every call as they are. */
  headers?: Readonly<Record<string, string>> | undefined;
  /** Limits one call with its retries. 30 s by default. */
  timeoutMs?: number | undefined;
  /** How long the watch of a job and an upload try to reconnect. 60 s by default. */
  reconnectTimeoutMs?: number | undefined;
  /**
   * What calls go through, such as `createGrpcWebTransport` of `@connectrpc/connect-web`. The
   * Connect protocol by default. It has to lead to the same server as the address.
   */
  transport?: Transport | undefined;
}

export type IngestArguments = CallOptions &
  Fields<typeof IngestRequestSchema, "url" | "validateOnly">;
export type ConvertArguments = CallOptions &
  Fields<typeof ConvertRequestSchema, "name" | "recipe" | "validateOnly">;
export type ResolveArguments = CallOptions & Fields<typeof ResolveRequestSchema, "url">;
export type JobFilter = Fields<typeof ListJobsRequestSchema, "pageSize" | "pageToken">;
export type MediaFilter = Fields<typeof ListMediaRequestSchema, "pageSize" | "pageToken">;

export type GetMediaArguments = CallOptions & Fields<typeof GetMediaRequestSchema, "name">;
export type UpdateMediaArguments = CallOptions &
  Fields<typeof UpdateMediaRequestSchema, "name" | "media" | "updateMask">;
export type DeleteMediaArguments = CallOptions & Fields<typeof DeleteMediaRequestSchema, "name">;
export type DownloadUrlArguments = CallOptions &
  Fields<typeof CreateDownloadUrlRequestSchema, "name">;

export type StoryboardArguments = CallOptions & Fields<typeof GetStoryboardRequestSchema, "name">;
