/** How calls reach the server: their headers, time limits and retries. */
import type {
  DescMessage,
  DescMethodServerStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Transport } from "@connectrpc/connect";

import { Backoff } from "./backoff.js";
import { fromCall, isUnavailable } from "./errors.js";

/** What every method of the client accepts. */
export interface CallOptions {
  /** Ends the call, which then throws the reason of the signal. */
  signal?: AbortSignal | undefined;
  /** Limits the call with its retries, instead of the limit of the client. */
  timeoutMs?: number | undefined;
}

/** How many times a call that is safe to repeat is made while the server is unavailable. */
const ATTEMPTS = 5;

export class Connection {
  constructor(
    private readonly transport: Transport,
    private readonly headers: Readonly<Record<string, string>>,
    private readonly timeoutMs: number,
    /** How long the watch of a job and an upload try to reconnect. */
    readonly reconnectMs: number,
  ) {}

  /**
   * Call a method, and return its response. Throws IngotError.
   *
   * While the server is unavailable, a call that is safe to repeat is repeated. `isSafe` decides
   * that; without it, the contract does.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    input: MessageInitShape<I>,
    options: CallOptions & { isSafe?: boolean } = {},
  ): Promise<MessageShape<O>> {
    const { signal } = options;
    const timeoutMs = options.timeoutMs ?? this.timeoutMs;
    const deadline = Date.now() + timeoutMs;
    const isSafe = options.isSafe ?? method.idempotency !== IdempotencyLevel.IDEMPOTENCY_UNKNOWN;
    const backoff = new Backoff();
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted();
      try {
        const left = Math.max(1, deadline - Date.now());
        const call = this.transport.unary(method, signal, left, this.headers, input);
        return (await call).message;
      } catch (thrown) {
        signal?.throwIfAborted();
        const error = fromCall(thrown);
        if (!isSafe || !isUnavailable(error) || attempt === ATTEMPTS) throw error;
        const delayMs = backoff.next(error.retryDelayMs);
        if (Date.now() + delayMs > deadline) throw error;
        await backoff.wait(delayMs, signal);
      }
    }
  }

  /**
   * Call a method that responds with a stream, and yield its messages.
   *
   * Throws IngotError, also when nothing has come for `silenceMs`: a server sends heartbeats, so
   * that means a dead connection. Throws the reason of `signal` when that is aborted.
   */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    input: MessageInitShape<I>,
    silenceMs: number,
    signal?: AbortSignal,
  ): AsyncGenerator<MessageShape<O>, void, undefined> {
    signal?.throwIfAborted();
    const call = new AbortController();
    const forward = () => {
      call.abort(signal?.reason);
    };
    signal?.addEventListener("abort", forward);
    const silence = new Silence(silenceMs, call);
    try {
      silence.begin();
      const { transport, headers } = this;
      const accepted = transport.stream(method, call.signal, undefined, headers, only(input));
      const { message: messages } = await accepted;
      for await (const message of messages) {
        // A reader may take its time.
        silence.end();
        yield message;
        silence.begin();
      }
    } catch (thrown) {
      signal?.throwIfAborted();
      throw fromCall(thrown);
    } finally {
      silence.end();
      signal?.removeEventListener("abort", forward);
      call.abort();
    }
  }
}

/** Ends a call when nothing has come for a while. */
class Silence {
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly limitMs: number,
    private readonly call: AbortController,
  ) {}

  begin(): void {
    this.timer = setTimeout(() => {
      const message = `The server has sent nothing for ${this.limitMs / 1000} s.`;
      this.call.abort(new ConnectError(message, Code.Unavailable));
    }, this.limitMs);
  }

  end(): void {
    clearTimeout(this.timer);
  }
}

/** Return a stream of requests that has only this one. */
async function* only<T>(request: T): AsyncGenerator<T, void, undefined> {
  yield await Promise.resolve(request);
}
