/** The growing delay between attempts, with jitter, so that clients do not come back all at once. */

const FIRST_MS = 100;
const LONGEST_MS = 5000;

export class Backoff {
  private attempts = 0;

  /** `random` returns a number from 0 to 1. */
  constructor(private readonly random: () => number = Math.random) {}

  /** Return the next delay, which is at least `leastMs`. */
  next(leastMs = 0): number {
    const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(this.attempts, 16));
    this.attempts++;
    return Math.max(leastMs, longest * (0.5 + this.random() / 2));
  }

  /** Note that the last attempt succeeded. */
  reset(): void {
    this.attempts = 0;
  }

  /**
   * Wait, but not longer than until a browser is online again. Throws the reason of `signal` when
   * that is aborted.
   */
  async wait(delayMs: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        page?.removeEventListener("online", end);
        resolve();
      };
      const timer = setTimeout(end, delayMs);
      signal?.addEventListener("abort", end);
      page?.addEventListener("online", end);
    });
    signal?.throwIfAborted();
  }
}

/** The global object of a page or a worker. Undefined in Node, which has no such events. */
const page = "addEventListener" in globalThis ? globalThis : undefined;
