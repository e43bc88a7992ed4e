/** Watches that survive a lost connection: they continue where they stopped, by their token. */
import type {
  DescMessage,
  DescMethodServerStreaming,
  Message,
  MessageInitShape,
} from "@bufbuild/protobuf";
import type { GenMessage } from "@bufbuild/protobuf/codegenv2";
import { Code } from "@connectrpc/connect";

import { Backoff } from "./backoff.js";
import type { Connection } from "./connection.js";
import { IngotError, isInterrupted } from "./errors.js";

/**
 * How long a watch may be silent before its connection counts as dead. The contract promises a
 * heartbeat at least every 20 seconds.
 */
export const SILENCE_MS = 30_000;

/** The watch has begun, or goes on. */
export interface Connected {
  type: "connected";
  /**
   * Whether the watch continues where it stopped. If not, it begins with a snapshot, and what was
   * received before and is not in the snapshot is gone.
   */
  resumed: boolean;
}

/** The connection is lost. The watch tries to connect again until it is ended. */
export interface Disconnected {
  type: "disconnected";
  /** Since when what was received is stale: when the server was last heard. */
  since: Date;
  /** What happened. */
  error: IngotError;
  /** When the next attempt to connect begins. */
  retryTime: Date;
}

/** What a method that can be watched sends. */
type WatchMessage = Message & { event: { case: string | undefined }; resumeToken: string };

/** What a watch yields: the messages of the server without heartbeats, and what it went through. */
export type Watched<M> = Connected | Disconnected | { type: "message"; message: M };

export interface WatchOptions {
  /** Ends the watch, which then throws the reason of the signal. */
  signal?: AbortSignal | undefined;
  /** How long to try to reconnect before the watch throws. */
  reconnectMs: number;
}

/**
 * Watch what `method` streams. Yields a Disconnected for each failed attempt to connect.
 *
 * The watch never ends by itself: its reader ends it when it has everything, and a stream that the
 * server ends before that counts as interrupted. Throws IngotError if another attempt cannot help,
 * or when the server has been away for `reconnectMs`.
 */
export async function* watch<I extends DescMessage, M extends WatchMessage>(
  connection: Connection,
  method: DescMethodServerStreaming<I, GenMessage<M>>,
  input: MessageInitShape<I>,
  { signal, reconnectMs }: WatchOptions,
): AsyncGenerator<Watched<M>, void, undefined> {
  const backoff = new Backoff();
  let resumeToken = "";
  let lastHeard = Date.now();
  for (;;) {
    let failure: IngotError;
    let isConnected = false;
    try {
      const request = { ...input, resumeToken } as MessageInitShape<I>;
      for await (const message of connection.stream(method, request, SILENCE_MS, signal)) {
        lastHeard = Date.now();
        backoff.reset();
        if (!isConnected) yield { type: "connected", resumed: resumeToken !== "" };
        isConnected = true;
        resumeToken = message.resumeToken;
        if (message.event.case !== "heartbeat") yield { type: "message", message };
      }
      failure = new IngotError("The server ended the stream early.", { code: Code.Unavailable });
    } catch (thrown) {
      if (!(thrown instanceof IngotError)) throw thrown;
      failure = thrown;
    }
    if (failure.reason === "RESUME_TOKEN_EXPIRED" && resumeToken !== "") {
      resumeToken = "";
      continue;
    }
    if (!isInterrupted(failure) && failure.retryDelayMs === undefined) throw failure;
    const delayMs = backoff.next(failure.retryDelayMs);
    const retryTime = new Date(Date.now() + delayMs);
    if (retryTime.getTime() - lastHeard > reconnectMs) throw failure;
    yield { type: "disconnected", since: new Date(lastHeard), error: failure, retryTime };
    await backoff.wait(delayMs, signal);
  }
}
