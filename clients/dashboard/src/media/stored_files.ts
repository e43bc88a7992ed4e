/** Stored files: the links to them, and how they are saved. */

import { IngotError } from "@ingot/client";

import { client } from "../connection/client";
import { SignedLinks } from "./signed_links";

/** Long enough for a film with a pause. */
const LINK_LIFETIME_SECONDS = 6n * 3600n;

/** Links to stored files, each named by a media id or an internal address. */
export const links = new SignedLinks((name) =>
  client.downloadUrl(name, { lifetime: { seconds: LINK_LIFETIME_SECONDS } }),
);

/** Returns whether a call failed because what it names is not stored. */
export function isMissing(error: unknown): boolean {
  return (
    error instanceof IngotError &&
    (error.reason === "MEDIA_NOT_FOUND" || error.reason === "MEDIA_DOES_NOT_EXIST")
  );
}

/** Saves a stored file: its link tells the browser to save what it leads to. */
export async function download(name: string): Promise<void> {
  const anchor = document.createElement("a");
  anchor.href = await links.get(name);
  anchor.rel = "noreferrer";
  anchor.click();
}
