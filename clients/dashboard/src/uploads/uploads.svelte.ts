/** The files that are uploaded from this page. They go on while other views are shown. */

import { errorOf, type Job, JobState, type UploadProgress } from "@ingot/client";

import { client, messageOf } from "../connection/client";
import { follow } from "../jobs/follow";
import { Speed } from "./speed";

/** Each file is sent in several parts at once already. */
const FILES_AT_ONCE = 2;

export type UploadState =
  "waiting" | "hashing" | "sending" | "storing" | "stored" | "failed" | "cancelled";

export class Upload {
  readonly id: number;
  readonly file: File;
  state: UploadState = $state("waiting");
  /** Bytes that are read in the state "hashing", or stored in the state "sending". */
  doneBytes = $state(0);
  /** Bytes per second over the last seconds; zero if not known. */
  rate = $state(0);
  /** The job that stores the file, when all bytes have arrived. */
  job: Job | undefined = $state.raw();
  /** Why it failed. */
  message = $state("");

  #stopped = new AbortController();
  readonly #speed = new Speed();

  constructor(id: number, file: File) {
    this.id = id;
    this.file = file;
  }

  get isActive(): boolean {
    return this.state === "hashing" || this.state === "sending" || this.state === "storing";
  }

  get hasEnded(): boolean {
    return this.state === "stored" || this.state === "failed" || this.state === "cancelled";
  }

  /** Sends the file, or what the server lacks of it, and follows its job to the end. */
  async run(): Promise<void> {
    const { signal } = this.#stopped;
    this.state = "hashing";
    this.message = "";
    try {
      const onProgress = (progress: UploadProgress) => {
        this.#show(progress);
      };
      const handle = await client.upload(this.file, { onProgress, signal });
      this.state = "storing";
      for await (const job of follow(handle.latest, signal)) this.job = job;
      const error = this.job && errorOf(this.job);
      if (error) throw error;
      this.state = this.job?.state === JobState.SUCCEEDED ? "stored" : "failed";
    } catch (error) {
      if (signal.aborted) return;
      this.state = "failed";
      this.message = messageOf(error);
    } finally {
      this.rate = 0;
    }
  }

  /** Stops sending. What has arrived is kept for a day, so that it can go on. */
  stop(): void {
    if (this.hasEnded) return;
    this.#stopped.abort();
    this.state = "cancelled";
  }

  /** Makes it wait for its turn again. */
  renew(): void {
    this.#stopped = new AbortController();
    this.state = "waiting";
    this.doneBytes = 0;
  }

  #show({ stage, doneBytes }: UploadProgress): void {
    if (this.#stopped.signal.aborted) return;
    if (this.state !== stage) this.#speed.begin(doneBytes, Date.now());
    this.state = stage;
    this.doneBytes = doneBytes;
    this.rate = this.#speed.measure(doneBytes, Date.now());
  }
}

class Uploads {
  /** The latest first. */
  list = $state.raw<readonly Upload[]>([]);
  #last = 0;

  /** Whether the page would interrupt an upload if it was closed. */
  get isSending(): boolean {
    return this.list.some((upload) => !upload.hasEnded);
  }

  add(files: readonly File[]): void {
    const added = files.map((file) => new Upload((this.#last += 1), file));
    this.list = [...added.reverse(), ...this.list];
    this.#next();
  }

  /** Starts again what failed or was stopped. */
  again(upload: Upload): void {
    upload.renew();
    this.#next();
  }

  stop(upload: Upload): void {
    upload.stop();
    this.#next();
  }

  remove(upload: Upload): void {
    this.list = this.list.filter((each) => each !== upload);
  }

  removeEnded(): void {
    this.list = this.list.filter((upload) => !upload.hasEnded);
  }

  /** Starts those whose turn it is: the first that was added goes first. */
  #next(): void {
    for (const upload of [...this.list].reverse()) {
      const active = this.list.filter(({ isActive, state }) => isActive && state !== "storing");
      if (active.length >= FILES_AT_ONCE) return;
      if (upload.state === "waiting") void this.#run(upload);
    }
  }

  async #run(upload: Upload): Promise<void> {
    await upload.run();
    this.#next();
  }
}

export const uploads = new Uploads();

window.addEventListener("beforeunload", (event) => {
  if (uploads.isSending) event.preventDefault();
});

/** Uploads files and shows them in the view "Uploads". */
export function uploadFiles(files: readonly File[]): void {
  uploads.add(files);
}
