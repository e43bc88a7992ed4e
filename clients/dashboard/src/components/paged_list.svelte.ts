/** What the server lists, latest first, one page after the other. */

/** Its ids are in the order of their creation. */
interface Item {
  id: string;
}

export interface Page<T> {
  items: readonly T[];
  nextPageToken: string;
}

export class PagedList<T extends Item> {
  items = $state.raw<readonly T[]>([]);
  loading = $state(false);
  /** Whether all there are are in `items`. */
  complete = $state(false);
  /** Why the last call failed. */
  error = $state.raw<unknown>(undefined);

  readonly #load: (pageToken: string, signal: AbortSignal) => Promise<Page<T>>;
  readonly #stopped = new AbortController();
  #pageToken = "";

  /** `load` asks the server for a page. */
  constructor(load: (pageToken: string, signal: AbortSignal) => Promise<Page<T>>) {
    this.#load = load;
  }

  /** Loads what follows, unless a call is under way. */
  async more(): Promise<void> {
    if (this.complete) return;
    await this.#call(this.#pageToken, (page) => {
      this.#pageToken = page.nextPageToken;
      this.complete = page.nextPageToken === "";
      const isNew = ({ id }: T) => this.items.every((each) => each.id !== id);
      this.items = [...this.items, ...page.items.filter(isNew)];
    });
  }

  /** Loads the first page again, unless a call is under way. What follows it stays as it was. */
  async refresh(): Promise<void> {
    const before = this.items;
    await this.#call("", (page) => {
      // What the reader has changed meanwhile is newer than this page.
      if (this.items !== before) return;
      const last = page.items.at(-1)?.id;
      const isAll = page.nextPageToken === "" || last === undefined;
      const rest = isAll ? [] : this.items.filter(({ id }) => id < last);
      if (rest.length === 0) {
        this.#pageToken = page.nextPageToken;
        this.complete = isAll;
      }
      this.items = [...page.items, ...rest];
    });
  }

  /** Shows an item as it is now. One that is not in the list comes first. */
  take(item: T): void {
    const isKnown = this.items.some(({ id }) => id === item.id);
    this.items = isKnown
      ? this.items.map((each) => (each.id === item.id ? item : each))
      : [item, ...this.items];
  }

  /** Shows an item no more. */
  remove(id: string): void {
    this.items = this.items.filter((each) => each.id !== id);
  }

  /** Drops the call that is under way. The list is not used after that. */
  stop(): void {
    this.#stopped.abort();
  }

  async #call(pageToken: string, show: (page: Page<T>) => void): Promise<void> {
    if (this.loading || this.#stopped.signal.aborted) return;
    this.loading = true;
    try {
      const page = await this.#load(pageToken, this.#stopped.signal);
      if (this.#stopped.signal.aborted) return;
      show(page);
      this.error = undefined;
    } catch (error) {
      if (!this.#stopped.signal.aborted) this.error = error;
    } finally {
      this.loading = false;
    }
  }
}
