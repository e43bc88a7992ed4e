import { expect, test } from "vitest";

import { callHeaders } from "./access.js";

test.each([
  "https://ingot.example.com",
  "http://localhost:8080",
  "http://127.0.0.1:8080",
  "http://[::1]:8080",
])("the token goes to %s", (address) => {
  expect(callHeaders(address, { "x-team": "a" }, "t0ken", false)).toEqual({
    "x-team": "a",
    authorization: "Bearer t0ken",
  });
});

test("without TLS the token goes to another machine only if that is allowed", () => {
  const address = "http://media.example.com";
  expect(() => callHeaders(address, {}, "t0ken", false)).toThrow("is not encrypted");
  expect(callHeaders(address, {}, "t0ken", true)).toEqual({ authorization: "Bearer t0ken" });
});

test("a token that no header can have is refused without showing it", () => {
  expect(() => callHeaders("https://a", {}, "two words", false)).toThrow(/^((?!two).)*$/);
});

test("a token and a header of the same meaning are refused", () => {
  const headers = { Authorization: "Basic x" };
  expect(() => callHeaders("https://a", headers, "t0ken", false)).toThrow("not both");
});
