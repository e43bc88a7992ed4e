/** The filters of the library, as the address of the page holds them. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type ListMediaRequestSchema, MediaKind } from "@ingot/client/v1";

export interface LibraryFilters {
  /** Words of the title or the uploader. */
  text: string;
  kind: MediaKind;
  source: string;
  /** Labels that the media items have, each `key=value`. */
  labels: readonly string[];
  /** First day in the reader's zone, YYYY-MM-DD. */
  from: string;
  /** Last day in the reader's zone, YYYY-MM-DD. */
  to: string;
}

export const KIND_NAMES = ["video", "audio", "image", "other"] as const;

const KINDS: Readonly<Record<string, MediaKind>> = {
  video: MediaKind.VIDEO,
  audio: MediaKind.AUDIO,
  image: MediaKind.IMAGE,
  other: MediaKind.OTHER,
};
const DAY = /^\d{4}-\d{2}-\d{2}$/;
const LABEL = /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?=.{0,255}$/;
/** What the contract accepts. */
const TEXT_LENGTH = 255;
const SOURCE_LENGTH = 64;
const MOST_LABELS = 64;

/** Returns the filters in a query. What is not a filter is left out, so an old link still works. */
export function filtersOf(query: URLSearchParams): LibraryFilters {
  return {
    text: (query.get("q") ?? "").slice(0, TEXT_LENGTH),
    kind: KINDS[query.get("kind") ?? ""] ?? MediaKind.UNSPECIFIED,
    source: (query.get("source") ?? "").slice(0, SOURCE_LENGTH),
    labels: query.getAll("label").filter(isLabel).slice(0, MOST_LABELS),
    from: dayOf(query.get("from")),
    to: dayOf(query.get("to")),
  };
}

/** Returns the query of `filters`, without those that are not set. */
export function queryOf(filters: LibraryFilters): URLSearchParams {
  const query = new URLSearchParams();
  const kind = Object.keys(KINDS).find((name) => KINDS[name] === filters.kind);
  const single = {
    q: filters.text,
    kind: kind ?? "",
    source: filters.source,
    from: filters.from,
    to: filters.to,
  };
  for (const [name, value] of Object.entries(single)) {
    if (value) query.set(name, value);
  }
  for (const label of filters.labels) query.append("label", label);
  return query;
}

/** Returns the request for the media items that match. */
export function requestOf(
  filters: LibraryFilters,
): MessageInitShape<typeof ListMediaRequestSchema> {
  const labels: Record<string, string> = {};
  for (const label of filters.labels) {
    const end = label.indexOf("=");
    labels[label.slice(0, end)] = label.slice(end + 1);
  }
  return {
    text: filters.text,
    kind: filters.kind,
    source: filters.source,
    labels,
    ...(filters.from && { createdAfter: timestampFromDate(beginOf(filters.from, 0)) }),
    ...(filters.to && { createdBefore: timestampFromDate(beginOf(filters.to, 1)) }),
  };
}

/** Returns whether `text` is a label that can be searched for: `key=value`. */
export function isLabel(text: string): boolean {
  return LABEL.test(text);
}

function dayOf(text: string | null): string {
  return text !== null && DAY.test(text) && !Number.isNaN(beginOf(text, 0).getTime()) ? text : "";
}

/** Returns the beginning of a day in the reader's zone, or of one that is `later` days later. */
function beginOf(day: string, later: number): Date {
  const [year, month, date] = day.split("-").map(Number);
  return new Date(year ?? NaN, (month ?? NaN) - 1, (date ?? NaN) + later);
}
