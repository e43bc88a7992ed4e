/** The client of Ingot, the media ingest service: `new Client("http://localhost:8080")`. */
export type {
  ClientOptions,
  ConvertArguments,
  DeleteMediaArguments,
  DownloadUrlArguments,
  GetMediaArguments,
  IngestArguments,
  JobFilter,
  MediaChanges,
  MediaFilter,
  ResolveArguments,
  StoryboardArguments,
  UpdateMediaArguments,
} from "./arguments.js";
export { Client } from "./client.js";
export type { CallOptions } from "./connection.js";
export { errorOf, fromStatus, IngotError, type ReasonName } from "./errors.js";
export { hasEnded, isLater, JobHandle, type WaitOptions } from "./job.js";
export type { JobsEvent, WatchJobsOptions } from "./jobs.js";
export type { UploadArguments, UploadProgress } from "./upload/upload.js";
export {
  type Job,
  JobKind,
  JobPriority,
  JobStage,
  JobState,
  JobWaiting_Cause,
} from "./v1/ingot/v1/job_pb.js";
export { type Media, MediaKind, type Selection, Selection_Mode } from "./v1/ingot/v1/media_pb.js";
export type { Recipe } from "./v1/ingot/v1/recipe_pb.js";
export type { Connected, Disconnected } from "./watch.js";
