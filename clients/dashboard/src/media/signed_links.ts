/** Signed links to stored files, kept while they work, so that a list that scrolls asks only once. */

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { timestampMs } from "@bufbuild/protobuf/wkt";

interface SignedLink {
  url: string;
  expireTime?: Timestamp | undefined;
}

/** A link that ends sooner is not given out: what it is for may take a moment to begin. */
const MARGIN_MS = 60_000;
/** Browsers open six connections to a server, and the page needs some for other calls. */
const CALLS_AT_ONCE = 3;
const MOST_KEPT = 2000;

export class SignedLinks {
  readonly #create: (name: string) => Promise<SignedLink>;
  readonly #kept = new Map<string, { url: string; endMs: number }>();
  readonly #asked = new Map<string, Promise<string>>();
  readonly #waiting: (() => void)[] = [];
  #calls = 0;

  /** `create` asks the server for a link to a file: of a media id, or of an internal address. */
  constructor(create: (name: string) => Promise<SignedLink>) {
    this.#create = create;
  }

  /** Returns a link that works for another minute at least. Calls for the same file share one. */
  get(name: string): Promise<string> {
    const kept = this.#kept.get(name);
    if (kept !== undefined && kept.endMs > Date.now() + MARGIN_MS) return Promise.resolve(kept.url);
    let asked = this.#asked.get(name);
    if (asked === undefined) {
      asked = this.#ask(name).finally(() => this.#asked.delete(name));
      this.#asked.set(name, asked);
    }
    return asked;
  }

  /** Forgets the link to a file, because it does not work any more. */
  forget(name: string): void {
    this.#kept.delete(name);
  }

  async #ask(name: string): Promise<string> {
    if (this.#calls < CALLS_AT_ONCE) this.#calls += 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      const link = await this.#create(name);
      const endMs = link.expireTime === undefined ? 0 : timestampMs(link.expireTime);
      this.#kept.set(name, { url: link.url, endMs });
      const oldest = this.#kept.keys().next();
      if (this.#kept.size > MOST_KEPT && !oldest.done) this.#kept.delete(oldest.value);
      return link.url;
    } finally {
      // The one that scrolled into view last is looked at now. It takes this one's place.
      const next = this.#waiting.pop();
      if (next === undefined) this.#calls -= 1;
      else next();
    }
  }
}
