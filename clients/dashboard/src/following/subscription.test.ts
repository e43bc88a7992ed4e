import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { FeedSchema, Selection_Mode, SubscriptionSchema } from "@ingot/client/v1";
import { expect, test } from "vitest";

import { texts } from "../texts";
import { conditionOf, feedAddress, feedNameOf, nameOf, remedyOf, requestOf } from "./subscription";

const URL_OF_LIST = "https://example.com/bells.xml";
const lastCheckTime = timestampFromMs(5000);
const lastError = { code: 14, message: "The source did not answer." };

test.each([
  ["before its first check", {}, undefined, "checking"],
  ["after it", { lastCheckTime }, undefined, "active"],
  ["when a check was asked for", { lastCheckTime }, 5000, "checking"],
  ["after that check", { lastCheckTime }, 4000, "active"],
  ["after a check that failed", { lastCheckTime, lastError }, 4000, "failing"],
  ["while it is paused", { lastCheckTime, lastError, paused: true }, 5000, "paused"],
])("its condition %s", (_when, values, askedAfterMs, expected) => {
  expect(conditionOf(create(SubscriptionSchema, values), askedAfterMs)).toBe(expected);
});

test("a remedy says what the reader can do, and not what the next check does", () => {
  expect(remedyOf("MEDIA_DOES_NOT_EXIST")).toBe(texts.remedies["MEDIA_DOES_NOT_EXIST"]);
  expect(remedyOf("SOURCE_UNREACHABLE")).toBe("The next check tries again.");
  expect(remedyOf("SOMETHING_NEW")).toBe("");
});

test("a list is named by its title, and by its URL before the first check", () => {
  const subscription = create(SubscriptionSchema, { url: URL_OF_LIST });
  expect(nameOf(subscription)).toBe(URL_OF_LIST);
  expect(nameOf({ ...subscription, title: "Bells" })).toBe("Bells");
});

test("what the reader chose is what is asked for", () => {
  const url = ` ${URL_OF_LIST}\n`;
  expect(requestOf({ url, mp3: false, markSeen: true })).toEqual({
    markSeen: true,
    subscription: { url: URL_OF_LIST, options: { thumbnail: true } },
  });
  expect(requestOf({ url, mp3: true, markSeen: false }).subscription).toMatchObject({
    recipes: [{ format: { case: "mp3" } }],
    selection: { mode: Selection_Mode.AUDIO_ONLY },
  });
});

test.each([
  [{ title: "My bells", subscriptionId: "s1" }, "My bells"],
  [{ subscriptionId: "s1" }, "Bells"],
  [{ labels: { show: "bells", year: "2026" } }, "show=bells, year=2026"],
  [{ subscriptionId: "gone" }, "f1"],
])("the feed %j is called %s", (values, name) => {
  const subscription = create(SubscriptionSchema, { id: "s1", url: URL_OF_LIST, title: "Bells" });
  expect(feedNameOf(create(FeedSchema, { id: "f1", ...values }), [subscription])).toBe(name);
});

test.each([
  ["http://localhost:8080/#/following", "http://localhost:8080/feeds/secret"],
  ["https://example.com/ingot/?x#/following", "https://example.com/ingot/feeds/secret"],
])("below %s, a feed is at %s", (base, address) => {
  expect(feedAddress("/feeds/secret", base)).toBe(address);
});
