/** The client: one object, and a method for every call of the API. */
import type {
  DescMessage,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { createConnectTransport } from "@connectrpc/connect-web";

import { callHeaders } from "./access.js";
import {
  CHANGEABLE,
  type ClientOptions,
  type ConvertArguments,
  type DeleteMediaArguments,
  type DownloadUrlArguments,
  type GetMediaArguments,
  type IngestArguments,
  type JobFilter,
  type MediaChanges,
  type MediaFilter,
  type ResolveArguments,
  type StoryboardArguments,
  type UpdateMediaArguments,
} from "./arguments.js";
import { type CallOptions, Connection } from "./connection.js";
import { fromStatus, type IngotError } from "./errors.js";
import { JobHandle } from "./job.js";
import { type JobsEvent, watchJobs, type WatchJobsOptions } from "./jobs.js";
import { type Fields, mediaName, newRequestId } from "./request.js";
import { upload, type UploadArguments } from "./upload/upload.js";
import {
  type IngestRequestSchema,
  IngestService,
  type ResolveResponse,
} from "./v1/ingot/v1/ingest_service_pb.js";
import type { Job } from "./v1/ingot/v1/job_pb.js";
import {
  type CancelJobsRequestSchema,
  JobService,
  type RetryJobsRequestSchema,
  type RetryJobsResponse,
} from "./v1/ingot/v1/job_service_pb.js";
import type { Media } from "./v1/ingot/v1/media_pb.js";
import {
  type CreateDownloadUrlResponse,
  type GetStoryboardResponse,
  MediaService,
} from "./v1/ingot/v1/media_service_pb.js";
import type { RecipeSchema } from "./v1/ingot/v1/recipe_pb.js";
import { SourceService, type SourceStatus } from "./v1/ingot/v1/source_service_pb.js";
import {
  type GetQuotaResponse,
  type GetSystemResponse,
  SystemService,
} from "./v1/ingot/v1/system_service_pb.js";

/** How many items of a list one call asks for. */
const PAGE_SIZE = 200;

/**
 * A client of the Ingot server at an address such as `http://localhost:8080`.
 *
 * Nothing is kept open between calls. Every method throws IngotError, and the reason of its `signal`
 * when that is aborted. Calls that are safe to repeat are repeated a few times while the server is
 * unavailable.
 */
export class Client {
  private readonly connection: Connection;

  /** Throws TypeError if the options are not valid. */
  constructor(address: string | URL, options: ClientOptions = {}) {
    const baseUrl = new URL(address).href.replace(/\/$/, "");
    const { headers = {}, token = "", allowPlaintextToken = false } = options;
    this.connection = new Connection(
      options.transport ?? createConnectTransport({ baseUrl, useBinaryFormat: true }),
      callHeaders(baseUrl, headers, token, allowPlaintextToken),
      options.timeoutMs ?? 30_000,
      options.reconnectTimeoutMs ?? 60_000,
    );
  }

  /**
   * Call any method of the contract that has one response, such as
   * `client.call(JobService.method.listJobs, { pageSize: 10 })`.
   */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    return this.connection.call(method, request, options);
  }

  /**
   * Start to store the media at `url`, and return the job.
   *
   * Callers that request the same media share the job. If all of it is stored already, the job has
   * already ended. A `requestId` is generated if none is given.
   */
  async ingest(url: string, options: IngestArguments = {}): Promise<JobHandle> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { requestId: newRequestId(), ...fields, url };
    const safe = { signal, timeoutMs, isSafe: request.requestId !== "" };
    return this.handle(await this.connection.call(IngestService.method.ingest, request, safe));
  }

  /**
   * Start to store the media of up to 200 requests. Each result is what `ingest` would return, or
   * the error that it would throw, in the order of the requests.
   */
  async ingestAll(
    requests: Fields<typeof IngestRequestSchema>[],
    options: CallOptions = {},
  ): Promise<(JobHandle | IngotError)[]> {
    const request = { requests: requests.map((each) => ({ requestId: newRequestId(), ...each })) };
    const safe = { ...options, isSafe: true };
    const method = IngestService.method.batchIngest;
    const { results } = await this.connection.call(method, request, safe);
    return results.map(({ result }) =>
      result.case === "error" ? fromStatus(result.value) : this.handle({ job: result.value }),
    );
  }

  /**
   * Check the arguments of `ingest` without any effect or access to the source. Returns the job
   * that it would create, which has no id.
   */
  async validate(url: string, options: IngestArguments = {}): Promise<Job> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { ...fields, url, validateOnly: true };
    const method = IngestService.method.ingest;
    return required((await this.connection.call(method, request, { signal, timeoutMs })).job);
  }

  /** Return what is behind `url`, without storing anything: a preview of `ingest`. */
  resolve(url: string, options: ResolveArguments = {}): Promise<ResolveResponse> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { ...fields, url };
    return this.connection.call(IngestService.method.resolve, request, { signal, timeoutMs });
  }

  /**
   * Start to convert a media item, named by id, URL or internal address; return the job, whose
   * media is the result. A URL that is not stored is ingested first.
   */
  async convert(
    name: string,
    recipe: MessageInitShape<typeof RecipeSchema>,
    options: ConvertArguments = {},
  ): Promise<JobHandle> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { requestId: newRequestId(), ...fields, name: mediaName(name), recipe };
    const safe = { signal, timeoutMs, isSafe: request.requestId !== "" };
    return this.handle(await this.connection.call(IngestService.method.convert, request, safe));
  }

  /**
   * Upload a file in parts, and return the job that stores it. In Node, `openAsBlob` of `node:fs`
   * opens a file.
   *
   * An upload that was interrupted is resumed, also by a later call for the same file and arguments.
   * Throws a DOMException (NotReadableError) if the file cannot be read or changes meanwhile.
   */
  async upload(file: Blob, options: UploadArguments = {}): Promise<JobHandle> {
    return new JobHandle(this.connection, await upload(this.connection, file, options));
  }

  /** Return a handle of the job with this id. */
  async job(jobId: string, options: CallOptions = {}): Promise<JobHandle> {
    return this.handle(await this.connection.call(JobService.method.getJob, { jobId }, options));
  }

  /** Yield the jobs on record that match every filter, latest first. */
  async *jobs(filter: JobFilter & CallOptions = {}): AsyncGenerator<Job, void, undefined> {
    const { signal, timeoutMs, ...filters } = filter;
    let pageToken = "";
    do {
      const request = { ...filters, pageSize: PAGE_SIZE, pageToken };
      const method = JobService.method.listJobs;
      const page = await this.connection.call(method, request, { signal, timeoutMs });
      yield* page.jobs;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /**
   * Yield all jobs that match every filter, then every change and removal, without end.
   *
   * First comes a snapshot of at most `snapshotSize` jobs, latest first, and its end. A job that
   * stops matching is yielded one last time. When the connection is lost, `disconnected` says since
   * when what was received is stale; when it is back, `connected` says whether the watch continues
   * where it stopped or begins again with a snapshot. Without `reconnectTimeoutMs` it never gives
   * up.
   */
  watchJobs(options: WatchJobsOptions = {}): AsyncGenerator<JobsEvent, void, undefined> {
    return watchJobs(this.connection, options);
  }

  /** Cancel a job, and return how it ended, or as it is if another caller wants it. */
  async cancel(jobId: string, options: CallOptions = {}): Promise<Job> {
    const method = JobService.method.cancelJob;
    return required((await this.connection.call(method, { jobId }, options)).job);
  }

  /** Cancel all jobs that match every filter; one is required. Returns how many there were. */
  async cancelAll(
    filter: Fields<typeof CancelJobsRequestSchema>,
    options: CallOptions = {},
  ): Promise<number> {
    const method = JobService.method.cancelJobs;
    return (await this.connection.call(method, filter, options)).cancelledCount;
  }

  /** Return a job like one that failed or was cancelled. */
  async retry(jobId: string, options: CallOptions = {}): Promise<JobHandle> {
    const request = { jobId, requestId: newRequestId() };
    const safe = { ...options, isSafe: true };
    return this.handle(await this.connection.call(JobService.method.retryJob, request, safe));
  }

  /**
   * Retry all jobs that match every filter; one is required. Without `states` these are the failed
   * ones. Returns how many there is a new job for, and how many were refused.
   */
  retryAll(
    filter: Fields<typeof RetryJobsRequestSchema>,
    options: CallOptions = {},
  ): Promise<RetryJobsResponse> {
    return this.connection.call(JobService.method.retryJobs, filter, options);
  }

  /** Return the stored media item with this id or URL. */
  async media(name: string, options: GetMediaArguments = {}): Promise<Media> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { ...fields, name: mediaName(name) };
    const method = MediaService.method.getMedia;
    return required((await this.connection.call(method, request, { signal, timeoutMs })).media);
  }

  /** Yield the stored media items that match every filter, the latest first. */
  async *listMedia(filter: MediaFilter & CallOptions = {}): AsyncGenerator<Media, void, undefined> {
    const { signal, timeoutMs, ...filters } = filter;
    let pageToken = "";
    do {
      const request = { ...filters, pageSize: PAGE_SIZE, pageToken };
      const method = MediaService.method.listMedia;
      const page = await this.connection.call(method, request, { signal, timeoutMs });
      yield* page.media;
      pageToken = page.nextPageToken;
    } while (pageToken);
  }

  /**
   * Change a media item, named by id, URL or internal address; return it as it is now.
   *
   * `changes` has the new values of its title, description, tags, labels and expireTime, and whether
   * it is pinned; what it does not name stays, and an undefined or empty value removes what there
   * was.
   */
  async updateMedia(
    name: string,
    changes: MediaChanges,
    options: UpdateMediaArguments = {},
  ): Promise<Media> {
    const { signal, timeoutMs, ...fields } = options;
    const paths = Object.keys(changes).map((field) => CHANGEABLE[field as keyof MediaChanges]);
    const request = { ...fields, name: mediaName(name), media: changes, updateMask: { paths } };
    // A second call with the etag would fail with ETAG_MISMATCH.
    const safe = { signal, timeoutMs, isSafe: !fields.etag };
    const method = MediaService.method.updateMedia;
    return required((await this.connection.call(method, request, safe)).media);
  }

  /** Delete a media item, named by id, URL or internal address. */
  async deleteMedia(name: string, options: DeleteMediaArguments = {}): Promise<void> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { ...fields, name: mediaName(name) };
    // A second call would fail with MEDIA_NOT_FOUND, unless a missing one is allowed.
    const safe = { signal, timeoutMs, isSafe: fields.allowMissing === true };
    await this.connection.call(MediaService.method.deleteMedia, request, safe);
  }

  /**
   * Create a signed link to the file of a media item, or to a side file by its internal address.
   * Everyone who has the link can read the file.
   */
  downloadUrl(
    name: string,
    options: DownloadUrlArguments = {},
  ): Promise<CreateDownloadUrlResponse> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { ...fields, name: mediaName(name) };
    const method = MediaService.method.createDownloadUrl;
    return this.connection.call(method, request, { signal, timeoutMs });
  }

  /**
   * Return the WebVTT index of a storyboard, with signed links to its sheets. `name` is the id of the
   * result of a recipe `storyboard`.
   */
  storyboard(name: string, options: StoryboardArguments = {}): Promise<GetStoryboardResponse> {
    const { signal, timeoutMs, ...fields } = options;
    const request = { ...fields, name: mediaName(name) };
    return this.connection.call(MediaService.method.getStoryboard, request, { signal, timeoutMs });
  }

  /** Return the sources and their status, in the order in which they are tried for a URL. */
  async sources(options: CallOptions = {}): Promise<SourceStatus[]> {
    return (await this.connection.call(SourceService.method.listSources, {}, options)).sources;
  }

  /** Return what waits and runs in the installation, and what is wrong with it. */
  system(options: CallOptions = {}): Promise<GetSystemResponse> {
    return this.connection.call(SystemService.method.getSystem, {}, options);
  }

  /** Return the limits of this client's caller, and how much of each it uses. */
  quota(options: CallOptions = {}): Promise<GetQuotaResponse> {
    return this.connection.call(SystemService.method.getQuota, {}, options);
  }

  private handle(response: { job?: Job | undefined }): JobHandle {
    return new JobHandle(this.connection, required(response.job));
  }
}

/** Return a field that the contract says is always set. */
function required<T>(value: T | undefined): T {
  if (value === undefined) throw new TypeError("The server's response lacks what it must have.");
  return value;
}
