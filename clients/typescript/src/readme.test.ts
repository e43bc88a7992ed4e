import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");

test.each(readdirSync(new URL("../examples", import.meta.url)))(
  "the README shows %s as it runs in the tests",
  (name) => {
    expect(read("../README.md")).toContain("```js\n" + read(`../examples/${name}`) + "```");
  },
);
