import { timestampDate } from "@bufbuild/protobuf/wkt";
import { MediaKind } from "@ingot/client/v1";
import { expect, test } from "vitest";
import { filtersOf, queryOf, requestOf } from "./filters";

const QUERY =
  "q=two+words&kind=audio&source=youtube&from=2026-11-01&to=2026-11-02&label=team%3Da%3Db";

test("a link to the library gives the filters that it was made from", () => {
  const filters = filtersOf(new URLSearchParams(QUERY));
  expect(filters).toEqual({
    text: "two words",
    kind: MediaKind.AUDIO,
    source: "youtube",
    labels: ["team=a=b"],
    from: "2026-11-01",
    to: "2026-11-02",
  });
  expect(queryOf(filters).toString()).toBe(QUERY);
});

test("what is not a filter is left out", () => {
  const filters = filtersOf(new URLSearchParams("kind=nothing&label=UPPER%3Dx&from=yesterday&x=1"));
  expect(queryOf(filters).toString()).toBe("");
});

test("the last day is part of the range, in the reader's zone", () => {
  const request = requestOf(filtersOf(new URLSearchParams(QUERY)));
  expect(request.labels).toEqual({ team: "a=b" });
  expect(timestampDate(request.createdAfter as never)).toEqual(new Date(2026, 10, 1));
  expect(timestampDate(request.createdBefore as never)).toEqual(new Date(2026, 10, 3));
});

test("an empty filter asks for everything", () => {
  expect(requestOf(filtersOf(new URLSearchParams()))).toEqual({
    text: "",
    kind: MediaKind.UNSPECIFIED,
    source: "",
    labels: {},
  });
});
