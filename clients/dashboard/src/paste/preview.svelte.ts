import { IngotError } from "@ingot/client";
import type { ResolveResponse } from "@ingot/client/v1";

import { client, messageOf } from "../connection/client";

/** How long a link has to stay the same before the server is asked: people type and correct. */
const PAUSE_MS = 250;
/** The source may be slow; the reader need not wait for the preview. */
const TIMEOUT_MS = 60_000;

/** What is behind the one link in the field. */
export class Preview {
  looking = $state(false);
  answer: ResolveResponse | undefined = $state.raw();
  message = $state("");

  /** Follows `link` for as long as the component that creates it lives. */
  constructor(link: () => string | undefined, whole: () => boolean) {
    $effect(() => {
      const url = link();
      const playlist = whole();
      this.answer = undefined;
      this.message = "";
      this.looking = url !== undefined;
      if (url === undefined) return;
      const controller = new AbortController();
      const timer = setTimeout(() => void this.#ask(url, playlist, controller.signal), PAUSE_MS);
      return () => {
        clearTimeout(timer);
        controller.abort();
      };
    });
  }

  async #ask(url: string, playlist: boolean, signal: AbortSignal): Promise<void> {
    try {
      const options = { playlist };
      const answer = await client.resolve(url, { options, signal, timeoutMs: TIMEOUT_MS });
      if (!signal.aborted) this.answer = answer;
    } catch (error) {
      if (signal.aborted || !(error instanceof IngotError)) return;
      this.message = messageOf(error);
    } finally {
      if (!signal.aborted) this.looking = false;
    }
  }
}
