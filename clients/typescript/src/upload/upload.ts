/** Upload of a file in parts by signed links, which is resumed after an interruption. */
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { Backoff } from "../backoff.js";
import type { Connection } from "../connection.js";
import { IngotError, isInterrupted } from "../errors.js";
import type { Fields } from "../request.js";
import { CreateUploadUrlRequestSchema, IngestService } from "../v1/ingot/v1/ingest_service_pb.js";
import { type Job, JobState } from "../v1/ingot/v1/job_pb.js";
import { MediaService } from "../v1/ingot/v1/media_service_pb.js";
import { missingParts, partSize, type Range } from "./parts.js";
import { put } from "./put.js";
import { Sha256, sha256Of } from "./sha256.js";

/** How many parts are sent at the same time. A browser opens six connections to a server. */
const CONCURRENCY = 3;

/** How far an upload is. */
export interface UploadProgress {
  /** First the file is read for its SHA-256; what is stored already is then not sent. */
  stage: "hashing" | "sending";
  /** Number of bytes of the file that are read or stored. */
  doneBytes: number;
  totalBytes: number;
}

/** What to do with a file, and how to send it. */
export interface UploadArguments extends Pick<
  Fields<typeof CreateUploadUrlRequestSchema>,
  "labels" | "priority" | "recipes"
> {
  /** Name of the file, used as the title. Unset means the name of a File. */
  filename?: string | undefined;
  onProgress?: ((progress: UploadProgress) => void) | undefined;
  /** Ends the upload, which then throws the reason of the signal. What was sent is kept. */
  signal?: AbortSignal | undefined;
}

/** Do what `Client.upload` does, and return the job. */
export async function upload(
  connection: Connection,
  file: Blob,
  { filename = nameOf(file), onProgress, signal, ...wanted }: UploadArguments,
): Promise<Job> {
  const report = (stage: UploadProgress["stage"], doneBytes: number) =>
    onProgress?.({ stage, doneBytes, totalBytes: file.size });
  const hashing = (doneBytes: number) => report("hashing", doneBytes);
  const sha256 = await sha256Of(file, hashing, signal);
  const request = {
    ...wanted,
    filename: filename.slice(0, 255),
    contentType: file.type || "application/octet-stream",
    sizeBytes: BigInt(file.size),
    sha256,
  };
  const begun = await begin(connection, request, signal);
  if (begun.job) {
    report("sending", file.size);
    return begun.job;
  }
  const sending = (doneBytes: number) => report("sending", doneBytes);
  return new Sending(connection, file, begun.uploadId, sending, signal).run();
}

/**
 * Begin an upload, or find one of the same file that was interrupted, in this process or another.
 *
 * The request id follows from the request. An upload that has failed, or whose media was deleted,
 * has its job for a while: then the file needs another upload.
 */
async function begin(
  connection: Connection,
  request: MessageInitShape<typeof CreateUploadUrlRequestSchema>,
  signal: AbortSignal | undefined,
): Promise<{ uploadId: string; job?: Job | undefined }> {
  const schema = CreateUploadUrlRequestSchema;
  for (let number = 0; ; number++) {
    const numbered = { ...request, requestId: String(number) };
    const requestId = new Sha256().update(toBinary(schema, create(schema, numbered))).hex();
    const method = IngestService.method.createUploadUrl;
    const options = { signal, isSafe: true };
    const begun = await connection.call(method, { ...request, requestId }, options);
    if (!begun.job || (await isOfUse(connection, begun.job, signal))) return begun;
  }
}

/** Return whether a job has stored a file, or will. */
async function isOfUse(
  connection: Connection,
  job: Job,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (job.state === JobState.FAILED || job.state === JobState.CANCELLED) return false;
  if (job.state !== JobState.SUCCEEDED) return true;
  const name = { case: "mediaId", value: job.media?.id ?? "" } as const;
  try {
    await connection.call(MediaService.method.getMedia, { name }, { signal });
    return true;
  } catch (error) {
    if (error instanceof IngotError && error.reason === "MEDIA_NOT_FOUND") return false;
    throw error;
  }
}

/** The parts of one upload on their way. */
class Sending {
  /** Bytes that are stored, and those sent of each part that is on its way. */
  private storedBytes = 0;
  private readonly underWay = new Map<number, number>();
  private lastProgress = Date.now();

  constructor(
    private readonly connection: Connection,
    private readonly file: Blob,
    private readonly uploadId: string,
    private readonly onProgress: (doneBytes: number) => void,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async run(): Promise<Job> {
    const backoff = new Backoff();
    const { uploadId, signal } = this;
    for (;;) {
      try {
        await this.sendMissing();
        const method = IngestService.method.completeUpload;
        const options = { signal, isSafe: true };
        const { job } = await this.connection.call(method, { uploadId }, options);
        if (job) return job;
        throw new TypeError("The server's response lacks the job of the upload.");
      } catch (error) {
        if (!(error instanceof IngotError) || !canResume(error)) throw error;
        const delayMs = backoff.next(error.retryDelayMs);
        if (Date.now() + delayMs - this.lastProgress > this.connection.reconnectMs) throw error;
        await backoff.wait(delayMs, signal);
      }
    }
  }

  /** Send what the server does not have. */
  private async sendMissing(): Promise<void> {
    const { uploadId, signal } = this;
    const method = IngestService.method.queryUpload;
    const { ranges } = await this.connection.call(method, { uploadId }, { signal });
    const stored = ranges.map(({ offset, sizeBytes }) => ({
      offset: Number(offset),
      sizeBytes: Number(sizeBytes),
    }));
    this.storedBytes = stored.reduce((sum, range) => sum + range.sizeBytes, 0);
    this.underWay.clear();
    this.report();

    const parts = missingParts(this.file.size, stored, partSize(this.file.size));
    // The first part that fails ends the others, which would wait for the same server.
    const round = new AbortController();
    const end = () => {
      round.abort(signal?.reason);
    };
    let failure: Error | undefined;
    const sendParts = async () => {
      try {
        for (let part = parts.shift(); part && !round.signal.aborted; part = parts.shift()) {
          await this.send(part, round.signal);
        }
      } catch (thrown) {
        failure ??= thrown instanceof Error ? thrown : new Error(String(thrown));
        round.abort();
      }
    };
    signal?.addEventListener("abort", end);
    await Promise.all(Array.from({ length: CONCURRENCY }, sendParts));
    signal?.removeEventListener("abort", end);
    signal?.throwIfAborted();
    if (failure) throw failure;
  }

  private async send(part: Range, signal: AbortSignal): Promise<void> {
    const data = await this.file.slice(part.offset, part.offset + part.sizeBytes).arrayBuffer();
    const request = {
      uploadId: this.uploadId,
      offset: BigInt(part.offset),
      partSizeBytes: BigInt(part.sizeBytes),
    };
    const options = { signal, isSafe: true };
    const method = IngestService.method.createUploadUrl;
    const { url, job } = await this.connection.call(method, request, options);
    if (job) return; // completed by another call for the same file
    const onSent = (sentBytes: number) => {
      this.lastProgress = Date.now();
      this.underWay.set(part.offset, sentBytes);
      this.report();
    };
    await put(url, data, onSent, signal);
    this.underWay.delete(part.offset);
    this.storedBytes += part.sizeBytes;
    this.report();
  }

  private report(): void {
    let doneBytes = this.storedBytes;
    for (const sentBytes of this.underWay.values()) doneBytes += sentBytes;
    this.onProgress(doneBytes);
  }
}

function canResume(error: IngotError): boolean {
  return error.reason === "UPLOAD_OFFSET_MISMATCH" || isInterrupted(error);
}

function nameOf(file: Blob): string {
  return file instanceof File ? file.name : "";
}
