/** Recipes as people choose them, and as they read them. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Media,
  MediaKind,
  type Recipe,
  Recipe_Transcript_Encoding,
  type RecipeSchema,
  SideFile_Kind,
} from "@ingot/client/v1";

import { formatLength, parseLength } from "../format";
import { texts } from "../texts";
import { kindOf } from "./kind";

const t = texts.media.conversions;

export const FORMATS = [
  "mp3",
  "m4a",
  "opus",
  "flac",
  "wav",
  "mp4",
  "image",
  "storyboard",
  "waveform",
  "transcript",
] as const;
export type Format = (typeof FORMATS)[number];

export const BITRATES: Readonly<Partial<Record<Format, readonly number[]>>> = {
  mp3: [128, 192, 256, 320],
  m4a: [96, 128, 160, 256],
  opus: [64, 96, 128, 192],
};
const USUAL_BITRATES: Readonly<Partial<Record<Format, number>>> = { mp3: 192, m4a: 160, opus: 128 };
export const HEIGHTS: readonly number[] = [1080, 720, 480, 360];

/** What a person has chosen in the form. Texts are as they were typed. */
export interface Choice {
  format: Format;
  bitrateKbps: number;
  /** Zero keeps the height. */
  maxHeight: number;
  start: string;
  end: string;
  evenLoudness: boolean;
}

export type ChoiceProblem = "start" | "end" | "order";

export function firstChoice(media: Media): Choice {
  const format = formatsFor(media)[0] ?? "mp3";
  return { format, ...usual(format), start: "", end: "", evenLoudness: false };
}

/** Returns what changes in a choice when another format is chosen. */
export function usual(format: Format): Pick<Choice, "bitrateKbps" | "maxHeight"> {
  return { bitrateKbps: USUAL_BITRATES[format] ?? 0, maxHeight: 0 };
}

/** Returns the formats that can be made of a media item, the most useful one first. */
export function formatsFor(media: Media): Format[] {
  const kind = kindOf(media);
  if (kind === MediaKind.OTHER) return [];
  const hasSound = media.audio.length > 0;
  const hasSubtitles = media.sideFiles.some((file) => file.kind === SideFile_Kind.SUBTITLES);
  const hasPicture = kind === MediaKind.VIDEO || kind === MediaKind.IMAGE;
  return FORMATS.filter((format) => {
    if (format === "image") return hasPicture;
    if (format === "mp4" || format === "storyboard") return kind === MediaKind.VIDEO;
    if (format === "transcript") return hasSound || hasSubtitles;
    return hasSound;
  });
}

export function isSound(format: Format): boolean {
  return !(["image", "storyboard", "waveform", "mp4", "transcript"] as Format[]).includes(format);
}

/** Returns what is wrong with the times of a choice; undefined if nothing is. */
export function problemOf(choice: Choice): ChoiceProblem | undefined {
  const start = timeOf(choice.start);
  const end = timeOf(choice.end);
  if (Number.isNaN(start)) return "start";
  if (choice.format === "image") return undefined;
  if (Number.isNaN(end)) return "end";
  return end !== undefined && end <= (start ?? 0) ? "order" : undefined;
}

/** Returns the recipe of a choice without a problem. */
export function recipeOf(choice: Choice): MessageInitShape<typeof RecipeSchema> {
  const start = timeOf(choice.start);
  const end = choice.format === "image" ? undefined : timeOf(choice.end);
  return {
    format: formatOf(choice),
    ...(start !== undefined && { startOffset: durationFromMs(start * 1000) }),
    ...(end !== undefined && { endOffset: durationFromMs(end * 1000) }),
  };
}

function formatOf(choice: Choice): NonNullable<MessageInitShape<typeof RecipeSchema>["format"]> {
  const normalizeLoudness = choice.evenLoudness;
  const { bitrateKbps } = choice;
  const height = choice.maxHeight > 0 ? { maxHeight: choice.maxHeight } : {};
  switch (choice.format) {
    case "mp3":
      return {
        case: "mp3",
        value: { rate: { case: "bitrateKbps", value: bitrateKbps }, normalizeLoudness },
      };
    case "m4a":
      return { case: "m4a", value: { bitrateKbps, normalizeLoudness } };
    case "opus":
      return { case: "opus", value: { bitrateKbps, normalizeLoudness } };
    case "flac":
      return { case: "flac", value: { normalizeLoudness } };
    case "wav":
      return { case: "wav", value: { normalizeLoudness } };
    case "mp4":
      return { case: "mp4", value: { ...height, normalizeLoudness } };
    case "image":
      return { case: "image", value: height };
    case "storyboard":
      return { case: "storyboard", value: {} };
    case "waveform":
      return { case: "waveform", value: {} };
    case "transcript":
      return { case: "transcript", value: {} };
  }
}

/** Returns a recipe in words: `MP3, 192 kbit/s, from 1:30 to 2:00`. */
export function describeRecipe(recipe: Recipe): string {
  const { format } = recipe;
  if (format.case === undefined) return "";
  const parts: string[] = [t.formats[format.case]];
  if (format.case === "mp3" && format.value.rate.case === "bitrateKbps") {
    parts.push(t.kbps(format.value.rate.value));
  }
  if ((format.case === "m4a" || format.case === "opus") && format.value.bitrateKbps !== undefined) {
    parts.push(t.kbps(format.value.bitrateKbps));
  }
  if ((format.case === "mp4" || format.case === "image") && format.value.maxHeight !== undefined) {
    parts.push(t.lines(format.value.maxHeight));
  }
  if (format.case === "transcript") {
    if (format.value.encoding === Recipe_Transcript_Encoding.JSON) parts.push(t.json);
    if (format.value.language) parts.push(format.value.language);
  }
  if ("normalizeLoudness" in format.value && format.value.normalizeLoudness) parts.push(t.evened);
  const start = recipe.startOffset && formatLength(durationMs(recipe.startOffset) / 1000);
  const end = recipe.endOffset && formatLength(durationMs(recipe.endOffset) / 1000);
  if (format.case === "image") {
    if (start !== undefined) parts.push(t.atTime(start));
  } else {
    const range = [start && t.from(start), end && t.to(end)].filter(Boolean).join(" ");
    if (range) parts.push(range);
  }
  return parts.join(", ");
}

/** Returns the seconds in a text; undefined if it is empty, NaN if it is not a time. */
function timeOf(text: string): number | undefined {
  return text.trim() === "" ? undefined : (parseLength(text) ?? NaN);
}
