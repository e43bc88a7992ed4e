import { linkTo, parsePlace, type Query } from "./place";

class Location {
  #hash = $state.raw(window.location.hash);
  /** Where the reader is now. */
  readonly place = $derived(parsePlace(this.#hash));

  constructor() {
    for (const event of ["hashchange", "popstate"]) {
      window.addEventListener(event, () => (this.#hash = window.location.hash));
    }
  }

  /** Goes to a place. `replace` keeps Back from returning to each letter of a search. */
  go(path: readonly string[], query: Query = {}, options: { replace?: boolean } = {}): void {
    const link = linkTo(path, query);
    if (link === window.location.hash) return;
    window.history[options.replace ? "replaceState" : "pushState"](null, "", link);
    this.#hash = link;
  }

  /** Stays, with other values in the query. The other values stay as they are. */
  change(query: Query, options: { replace?: boolean } = {}): void {
    const { path, query: old } = this.place;
    const kept = Object.fromEntries([...new Set(old.keys())].map((key) => [key, old.getAll(key)]));
    this.go(path, { ...kept, ...query }, options);
  }
}

export const location = new Location();
