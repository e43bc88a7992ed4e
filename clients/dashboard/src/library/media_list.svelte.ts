/** The media items that match a filter, one page after the other as they come into view. */

import type { Media } from "@ingot/client/v1";

export interface MediaPage {
  media: Media[];
  nextPageToken: string;
  rebuilding: boolean;
}

/** Pages without a match that are skipped in one go. After them the reader decides. */
const EMPTY_PAGES = 20;

export class MediaList {
  items = $state.raw<readonly Media[]>([]);
  loading = $state(false);
  /** Whether all matches are in `items`. */
  complete = $state(false);
  /** Whether matches may be missing, because the server is building its index. */
  rebuilding = $state(false);
  /** Why the last page did not come. */
  error = $state.raw<unknown>(undefined);

  readonly #load: (pageToken: string, signal: AbortSignal) => Promise<MediaPage>;
  readonly #stopped = new AbortController();
  #pageToken = "";

  /** `load` asks the server for a page. */
  constructor(load: (pageToken: string, signal: AbortSignal) => Promise<MediaPage>) {
    this.#load = load;
  }

  /** Loads what follows, unless it is on its way. Pages without matches are skipped. */
  async more(): Promise<void> {
    if (this.loading || this.complete || this.#stopped.signal.aborted) return;
    this.loading = true;
    this.error = undefined;
    try {
      for (let page = 0; page < EMPTY_PAGES; page += 1) {
        const found = await this.#load(this.#pageToken, this.#stopped.signal);
        if (this.#stopped.signal.aborted) return;
        this.#pageToken = found.nextPageToken;
        this.rebuilding = found.rebuilding;
        this.complete = found.nextPageToken === "";
        if (found.media.length > 0) this.items = [...this.items, ...found.media];
        if (found.media.length > 0 || this.complete) return;
      }
    } catch (error) {
      if (!this.#stopped.signal.aborted) this.error = error;
    } finally {
      this.loading = false;
    }
  }

  /** Drops the call that is under way. The list is not used after that. */
  stop(): void {
    this.#stopped.abort();
  }
}
