/** The deliveries of webhooks that match a filter, latest first, one page after the other. */

import { type WebhookDelivery, WebhookDelivery_State } from "@ingot/client/v1";

export interface DeliveryPage {
  deliveries: WebhookDelivery[];
  nextPageToken: string;
}

export class DeliveryList {
  items = $state.raw<readonly WebhookDelivery[]>([]);
  loading = $state(false);
  /** Whether all matches are in `items`. */
  complete = $state(false);
  /** Why the last call failed. */
  error = $state.raw<unknown>(undefined);
  /** Whether the server will change one of them by itself. */
  readonly changes = $derived(
    this.items.some(({ state }) => state === WebhookDelivery_State.PENDING),
  );

  readonly #load: (pageToken: string, signal: AbortSignal) => Promise<DeliveryPage>;
  readonly #stopped = new AbortController();
  #pageToken = "";

  /** `load` asks the server for a page. */
  constructor(load: (pageToken: string, signal: AbortSignal) => Promise<DeliveryPage>) {
    this.#load = load;
  }

  /** Loads what follows, unless a call is under way. */
  async more(): Promise<void> {
    if (this.complete) return;
    await this.#call(this.#pageToken, (page) => {
      this.#pageToken = page.nextPageToken;
      this.complete = page.nextPageToken === "";
      return [...this.items, ...page.deliveries];
    });
  }

  /** Loads the first page again. What follows it stays as it was. */
  async refresh(): Promise<void> {
    await this.#call("", (page) => {
      const last = page.deliveries.at(-1)?.id;
      const isAll = page.nextPageToken === "" || last === undefined;
      const rest = isAll ? [] : this.items.filter(({ id }) => id < last);
      if (rest.length === 0) {
        this.#pageToken = page.nextPageToken;
        this.complete = isAll;
      }
      return [...page.deliveries, ...rest];
    });
  }

  /** Shows a delivery as it is now. */
  take(delivery: WebhookDelivery): void {
    this.items = this.items.map((each) => (each.id === delivery.id ? delivery : each));
  }

  /** Drops the call that is under way. The list is not used after that. */
  stop(): void {
    this.#stopped.abort();
  }

  async #call(
    pageToken: string,
    items: (page: DeliveryPage) => readonly WebhookDelivery[],
  ): Promise<void> {
    if (this.loading || this.#stopped.signal.aborted) return;
    this.loading = true;
    try {
      const page = await this.#load(pageToken, this.#stopped.signal);
      if (this.#stopped.signal.aborted) return;
      this.items = items(page);
      this.error = undefined;
    } catch (error) {
      if (!this.#stopped.signal.aborted) this.error = error;
    } finally {
      this.loading = false;
    }
  }
}
