import { Client, IngotError } from "@ingot/client";

/** The client of the server that delivered the page. */
export const client = new Client(new URL(".", window.location.href));

/** What an error says to the reader: what happened, and what to do. */
export function messageOf(error: unknown): string {
  if (error instanceof IngotError || error instanceof Error) return error.message;
  return String(error);
}
