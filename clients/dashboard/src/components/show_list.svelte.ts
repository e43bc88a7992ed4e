import { untrack } from "svelte";

import type { PagedList } from "./paged_list.svelte";

/**
 * Loads the list that a component shows, drops it when another one or none is shown, and refreshes
 * it every `refreshMs` while the page is visible; 0 is never. Call it while a component is created.
 */
export function showList<T extends { id: string }>(
  list: () => PagedList<T>,
  refreshMs: () => number = () => 0,
): void {
  $effect(() => {
    const shown = list();
    // What a call changes must not have it begin again.
    untrack(() => void shown.more());
    return () => {
      shown.stop();
    };
  });

  $effect(() => {
    const shown = list();
    const interval = refreshMs();
    if (interval === 0) return;
    const timer = setInterval(() => {
      if (!document.hidden) void shown.refresh();
    }, interval);
    return () => {
      clearInterval(timer);
    };
  });
}
