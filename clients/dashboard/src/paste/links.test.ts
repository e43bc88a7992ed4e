import { expect, test } from "vitest";

import { linksIn } from "./links";

test.each([
  ["https://host/a", ["https://host/a"]],
  ["  https://host/a?b=1&c=2#d \n http://other/e", ["https://host/a?b=1&c=2#d", "http://other/e"]],
  ["Look (https://host/a), and at https://host/a!", ["https://host/a"]],
  ["https://host/wiki/A_(b)", ["https://host/wiki/A_(b)"]],
  ["<https://host/a>", ["https://host/a"]],
  ["ftp://host/a file:///etc/passwd javascript:alert(1) host/a", []],
  ["https://", []],
])("the links of %j are found", (text, links) => {
  expect(linksIn(text)).toEqual(links);
});
