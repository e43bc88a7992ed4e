import { type Job, JobKind, JobState } from "@ingot/client/v1";

import type { Query } from "../routing/place";

/** Which jobs the list shows. It is the query of the address. */
export interface JobFilters {
  states: readonly JobState[];
  kinds: readonly JobKind[];
  source: string;
  text: string;
  /** Id of the subscription whose new entries they are; empty for all jobs. */
  subscription: string;
  /** Also the parts of other jobs: entries of lists, conversions. */
  parts: boolean;
}

const STATES: Readonly<Record<string, JobState>> = {
  running: JobState.RUNNING,
  queued: JobState.QUEUED,
  succeeded: JobState.SUCCEEDED,
  failed: JobState.FAILED,
  cancelled: JobState.CANCELLED,
};
const KINDS: Readonly<Record<string, JobKind>> = {
  ingest: JobKind.INGEST,
  convert: JobKind.CONVERT,
  both: JobKind.INGEST_AND_CONVERT,
  list: JobKind.PLAYLIST,
};

/** The states in the order in which they are shown. */
export const SHOWN_STATES: readonly JobState[] = Object.values(STATES);
export const SHOWN_KINDS: readonly JobKind[] = Object.values(KINDS);

export function filtersOf(query: URLSearchParams): JobFilters {
  return {
    states: query.getAll("state").flatMap((name) => STATES[name] ?? []),
    kinds: query.getAll("kind").flatMap((name) => KINDS[name] ?? []),
    source: query.get("source") ?? "",
    text: query.get("text") ?? "",
    subscription: query.get("subscription") ?? "",
    parts: query.get("parts") === "shown",
  };
}

export function queryOf(filters: JobFilters): Query {
  return {
    state: namesOf(STATES, filters.states),
    kind: namesOf(KINDS, filters.kinds),
    source: filters.source,
    text: filters.text,
    subscription: filters.subscription,
    parts: filters.parts ? "shown" : "",
  };
}

/** The filters in the words of ListJobs, CancelJobs and RetryJobs. */
export function requestOf({ states, kinds, source, text, subscription }: JobFilters) {
  const subscriptionId = subscription;
  return { states: [...states], kinds: [...kinds], source, text, subscriptionId };
}

export function isFiltered({ states, kinds, source, text, subscription }: JobFilters): boolean {
  return [states, kinds, source, text, subscription].some((filter) => filter.length > 0);
}

/** Whether the list shows a job. It decides as the server does in ListJobs. */
export function matches(job: Job, filters: JobFilters): boolean {
  if (job.parentJobId && !filters.parts) return false;
  if (filters.states.length && !filters.states.includes(job.state)) return false;
  if (filters.kinds.length && !filters.kinds.includes(job.kind)) return false;
  if (filters.source && job.media?.source?.name !== filters.source) return false;
  if (filters.subscription && job.subscriptionId !== filters.subscription) return false;
  if (!filters.text) return true;
  const wanted = filters.text.toLowerCase();
  const { displayName, url, media } = job;
  return [displayName, url, media?.title, media?.uploader].some((text) =>
    text?.toLowerCase().includes(wanted),
  );
}

function namesOf<Value>(table: Readonly<Record<string, Value>>, values: readonly Value[]) {
  return Object.keys(table).filter((name) => values.includes(table[name] as Value));
}
