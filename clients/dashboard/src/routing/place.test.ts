import { expect, test } from "vitest";

import { linkTo, parsePlace } from "./place";

test.each([
  ["", [], ""],
  ["#/", [], ""],
  ["#/jobs", ["jobs"], ""],
  ["#/jobs/a%2Fb?state=failed&state=queued", ["jobs", "a/b"], "state=failed&state=queued"],
  ["#/jobs?text=50%25%3F", ["jobs"], "text=50%25%3F"],
  ["#/broken%", ["broken%"], ""],
])("%s is read as a place", (hash, path, query) => {
  const place = parsePlace(hash);
  expect(place.path).toEqual(path);
  expect(place.query.toString()).toBe(query);
});

test("a link leads to the place that it was made from", () => {
  const link = linkTo(["jobs", "a/b c"], {
    text: "50%? & more",
    state: ["failed", "queued"],
    x: "",
  });
  const place = parsePlace(link);
  expect(place.path).toEqual(["jobs", "a/b c"]);
  expect(place.query.get("text")).toBe("50%? & more");
  expect(place.query.getAll("state")).toEqual(["failed", "queued"]);
  expect(place.query.has("x")).toBe(false);
});
