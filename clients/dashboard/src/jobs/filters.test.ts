import { create } from "@bufbuild/protobuf";
import { JobKind, JobSchema, JobState } from "@ingot/client/v1";
import { expect, test } from "vitest";

import { linkTo, parsePlace } from "../routing/place";
import { filtersOf, isFiltered, matches, queryOf, requestOf } from "./filters";

const none = filtersOf(new URLSearchParams());

test("filters survive the address", () => {
  const filters = {
    states: [JobState.RUNNING, JobState.FAILED],
    kinds: [JobKind.PLAYLIST],
    source: "youtube",
    text: "a & b",
    subscription: "s1",
    parts: true,
  };
  expect(filtersOf(parsePlace(linkTo(["jobs"], queryOf(filters))).query)).toEqual(filters);
});

test("a subscription alone is a filter, so no other job is cancelled with its jobs", () => {
  const filters = { ...none, subscription: "s1" };
  expect([isFiltered(none), isFiltered(filters)]).toEqual([false, true]);
  expect(requestOf(filters).subscriptionId).toBe("s1");
});

test("an unknown value in the address is no filter", () => {
  expect(filtersOf(new URLSearchParams("state=odd&kind=odd"))).toEqual(none);
});

const job = create(JobSchema, {
  displayName: "Bell of the Day",
  state: JobState.FAILED,
  kind: JobKind.INGEST,
  url: "http://host/Clip.mp4",
  media: { uploader: "Ingot", source: { name: "http" } },
  subscriptionId: "s1",
});

test.each([
  [{}, true],
  [{ text: "BELL" }, true],
  [{ text: "clip.MP4" }, true],
  [{ text: "ingot" }, true],
  [{ text: "other" }, false],
  [{ states: [JobState.RUNNING] }, false],
  [{ kinds: [JobKind.CONVERT] }, false],
  [{ source: "youtube" }, false],
  [{ subscription: "s1" }, true],
  [{ subscription: "s2" }, false],
  [{ source: "http", states: [JobState.FAILED] }, true],
])("%j decides about a job", (filters, shown) => {
  expect(matches(job, { ...none, ...filters })).toBe(shown);
});

test("a part of another job is shown on request only", () => {
  const part = create(JobSchema, { parentJobId: "a" });
  expect(matches(part, none)).toBe(false);
  expect(matches(part, { ...none, parts: true })).toBe(true);
});
