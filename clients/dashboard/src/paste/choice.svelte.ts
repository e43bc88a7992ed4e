import { readKept, writeKept } from "../kept";

/** What to make of a link. */
export type What = "mp3" | "m4a" | "media" | "clip";

export const WHATS: readonly What[] = ["mp3", "m4a", "media", "clip"];
/** How long a live stream can be recorded; the server allows up to 12 hours. */
export const RECORD_MINUTES: readonly number[] = [5, 15, 30, 60, 120, 240, 480, 720];
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
  recordMinutes = $state(60);
  /** Save the file when it is stored. */
  save = $state(true);

  constructor() {
    try {
      const kept = JSON.parse(readKept(KEY) ?? "{}") as Partial<Choice>;
      this.what = WHATS.find((what) => what === kept.what) ?? "mp3";
      this.subtitles = typeof kept.subtitles === "string" ? kept.subtitles : "";
      this.automatic = kept.automatic === true;
      this.save = kept.save !== false;
      this.recordMinutes = RECORD_MINUTES.find((length) => length === kept.recordMinutes) ?? 60;
    } catch {
      // What another version wrote is no choice.
    }
  }

  remember(): void {
    const { what, subtitles, automatic, save, recordMinutes } = this;
    writeKept(KEY, JSON.stringify({ what, subtitles, automatic, save, recordMinutes }));
  }
}

export const choice = new Choice();
