/**
 * Returns a function that requests a run of `run`, which must not reject. A run begins half of
 * `periodMs` after its request, and no two begin within `periodMs`; requests meanwhile share one. A
 * request during a run leads to another run, because that one may have looked too early.
 */
export function throttled(run: () => Promise<void>, periodMs: number): () => void {
  const pause = () => new Promise((resolve) => setTimeout(resolve, periodMs / 2));
  let requested = false;
  let active = false;

  async function serve(): Promise<void> {
    active = true;
    while (requested) {
      await pause();
      requested = false;
      await run();
      await pause();
    }
    active = false;
  }

  return () => {
    requested = true;
    if (!active) void serve();
  };
}
