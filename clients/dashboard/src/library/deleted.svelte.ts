import { SvelteSet } from "svelte/reactivity";

/** Ids of the media items that were deleted here, so that a list that was loaded before has none. */
export const deleted = new SvelteSet<string>();
