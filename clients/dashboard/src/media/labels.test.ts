import { expect, test } from "vitest";
import { labelsOf, problemsOf, rowsOf } from "./labels";

test("labels are edited in the order of their keys, and an empty row is not a label", () => {
  const rows = rowsOf({ team: "news", "app/id": "7" });
  expect(rows.map(({ key }) => key)).toEqual(["app/id", "team"]);
  expect(labelsOf([...rows, { key: "", value: "" }])).toEqual({ team: "news", "app/id": "7" });
});

test("a row that the server would refuse says why before it is sent", () => {
  const rows = [
    { key: "team", value: "x" },
    { key: "Team", value: "x" },
    { key: "-a", value: "x" },
    { key: "", value: "x" },
    { key: "a".repeat(64), value: "" },
    { key: "long", value: "v".repeat(256) },
    { key: "team", value: "y" },
    { key: "", value: "" },
  ];
  expect(problemsOf(rows)).toEqual([
    undefined,
    "key",
    "key",
    "key",
    "key",
    "value",
    "twice",
    undefined,
  ]);
});
