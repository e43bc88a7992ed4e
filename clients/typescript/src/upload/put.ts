/** Sends one part of a file to the S3 server, by its signed link. */
import { Code } from "@connectrpc/connect";

import { IngotError } from "../errors.js";

/** How long a part may make no progress before its connection counts as dead. */
const STALL_MS = 30_000;

/**
 * Send `data` by HTTP PUT. `onProgress` is called with the number of bytes sent; without
 * XMLHttpRequest, which Node does not have, only at the end.
 *
 * Throws IngotError with the code UNAVAILABLE if the server did not store the part: sending it again
 * with a new link may succeed. Throws the reason of `signal` when that is aborted.
 */
export async function put(
  url: string,
  data: ArrayBuffer,
  onProgress: (sentBytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  const send = typeof XMLHttpRequest === "undefined" ? putByFetch : putByXhr;
  const status = await send(url, data, onProgress, signal).catch((thrown: unknown) => {
    signal?.throwIfAborted();
    const options = { cause: thrown };
    const message = "The connection to the S3 server was lost.";
    throw new IngotError(message, { code: Code.Unavailable }, options);
  });
  if (status < 200 || status > 299) {
    const message = `The S3 server refused a part with the status ${status}.`;
    throw new IngotError(message, { code: Code.Unavailable });
  }
  onProgress(data.byteLength);
}

async function putByFetch(
  url: string,
  body: ArrayBuffer,
  _onProgress: (sentBytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<number> {
  const response = await fetch(url, { method: "PUT", body, signal: signal ?? null });
  await response.arrayBuffer();
  return response.status;
}

/** fetch does not tell how much of a body was sent. */
function putByXhr(
  url: string,
  data: ArrayBuffer,
  onProgress: (sentBytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let stalled: ReturnType<typeof setTimeout>;
    const abort = () => {
      request.abort();
    };
    const expectProgress = () => {
      clearTimeout(stalled);
      stalled = setTimeout(abort, STALL_MS);
    };
    request.upload.onprogress = (event) => {
      expectProgress();
      onProgress(event.loaded);
    };
    request.onloadend = () => {
      clearTimeout(stalled);
      signal?.removeEventListener("abort", abort);
      if (request.status > 0) resolve(request.status);
      else reject(new TypeError("The request ended without a response."));
    };
    signal?.addEventListener("abort", abort);
    request.open("PUT", url);
    expectProgress();
    request.send(data);
  });
}
