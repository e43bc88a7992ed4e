import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import type { Client, JobHandle } from "@ingot/client";
import {
  type IngestOptionsSchema,
  type Job,
  JobPriority,
  type RecipeSchema,
  ResolveResponse_Kind,
  Selection_Mode,
} from "@ingot/client/v1";

import { parseLength } from "../format";
import type { What } from "./choice.svelte";

/** What the reader wants of a link. */
export interface Wish {
  what: What;
  from: string;
  to: string;
  whole: boolean;
  subtitles: string;
  automatic: boolean;
  /** How long a live stream is recorded at most. */
  recordMinutes: number;
}

type RecipeInit = MessageInitShape<typeof RecipeSchema>;

/** Whether the times of a clip can be used. */
export function hasValidTimes({ what, from, to }: Wish): boolean {
  if (what !== "clip") return true;
  const [start, end] = [from ? parseLength(from) : 0, to ? parseLength(to) : Infinity];
  return start !== undefined && end !== undefined && start < end && (from !== "" || to !== "");
}

/** The recipe of a wish; undefined if the media is wanted as it is. */
export function recipeOf({ what, from, to }: Wish): RecipeInit | undefined {
  if (what === "media") return undefined;
  if (what === "mp3") return { format: { case: "mp3", value: {} } };
  if (what === "m4a") return { format: { case: "m4a", value: {} } };
  const [start, end] = [parseLength(from), parseLength(to)];
  return {
    format: { case: "mp4", value: {} },
    ...(start && { startOffset: durationFromMs(start * 1000) }),
    ...(end !== undefined && { endOffset: durationFromMs(end * 1000) }),
  };
}

/** Asks for what the reader wants of a link. A person waits for it, so it goes before other jobs. */
export function request(
  client: Client,
  url: string,
  wish: Wish,
  kind: ResolveResponse_Kind | undefined,
): Promise<JobHandle> {
  const priority = JobPriority.HIGH;
  const recipe = recipeOf(wish);
  const isLive = kind === ResolveResponse_Kind.LIVE;
  const isList = kind === ResolveResponse_Kind.LIST || wish.whole;
  const languages = languagesIn(wish.subtitles);
  // Convert has no options, so what only an ingest can do needs one.
  const needsIngest = isLive || isList || languages.length > 0;
  if (recipe && !needsIngest) return client.convert(url, recipe, { priority });
  const isSound = wish.what === "mp3" || wish.what === "m4a";
  const options: MessageInitShape<typeof IngestOptionsSchema> = {
    playlist: isList,
    thumbnail: true,
    subtitleLanguages: languages,
    automaticSubtitles: wish.automatic,
    ...(isLive && { recordDuration: durationFromMs(wish.recordMinutes * 60_000) }),
  };
  return client.ingest(url, {
    priority,
    options,
    recipes: recipe ? [recipe] : [],
    ...(isSound && isList && { selection: { mode: Selection_Mode.AUDIO_ONLY } }),
  });
}

/** The media item that the reader wanted, once its job has succeeded. */
export function resultOf(job: Job): string | undefined {
  return (job.conversions[0] ?? job.media)?.id;
}

function languagesIn(text: string): string[] {
  return text.split(/[\s,;]+/).filter(Boolean);
}
