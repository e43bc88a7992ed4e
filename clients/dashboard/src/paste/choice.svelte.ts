import { readKept, writeKept } from "../kept";

/** What to make of a link. */
export type What = "mp3" | "m4a" | "media" | "clip";

export const WHATS: readonly What[] = ["mp3", "m4a", "media", "clip"];
const KEY = "choice";

/** What the reader wants, which is remembered for the next link. */
class Choice {
  what = $state<What>("mp3");
  /** Times of a clip, as the reader writes them. They belong to one link and are not remembered. */
  from = $state("");
  to = $state("");
  /** The whole list, if the link is part of one. */
  whole = $state(false);
  subtitles = $state("");
  automatic = $state(false);
  /** Save the file when it is stored. */
  save = $state(true);

  constructor() {
    try {
      const kept = JSON.parse(readKept(KEY) ?? "{}") as Partial<Choice>;
      this.what = WHATS.find((what) => what === kept.what) ?? "mp3";
      this.subtitles = typeof kept.subtitles === "string" ? kept.subtitles : "";
      this.automatic = kept.automatic === true;
      this.save = kept.save !== false;
    } catch {
      // What another version wrote is no choice.
    }
  }

  remember(): void {
    const { what, subtitles, automatic, save } = this;
    writeKept(KEY, JSON.stringify({ what, subtitles, automatic, save }));
  }
}

export const choice = new Choice();
