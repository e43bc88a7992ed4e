/** How fast bytes go, over the last seconds. */

const WINDOW_MS = 5000;
const SETTLED_MS = 500;

export class Speed {
  #samples: { bytes: number; timeMs: number }[] = [];

  /** Begins at a number of bytes that were there before. */
  begin(bytes: number, timeMs: number): void {
    this.#samples = [{ bytes, timeMs }];
  }

  /** Takes the number of bytes at a time. Returns bytes per second; zero while it is not known. */
  measure(bytes: number, timeMs: number): number {
    this.#samples.push({ bytes, timeMs });
    while (this.#samples.length > 2 && (this.#samples[1]?.timeMs ?? timeMs) < timeMs - WINDOW_MS) {
      this.#samples.shift();
    }
    const first = this.#samples[0];
    if (first === undefined || timeMs - first.timeMs < SETTLED_MS) return 0;
    return Math.max(0, ((bytes - first.bytes) * 1000) / (timeMs - first.timeMs));
  }
}
