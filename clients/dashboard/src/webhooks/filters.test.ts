import { WebhookDelivery_State } from "@ingot/client/v1";
import { expect, test } from "vitest";
import { filtersOf, STATE_NAMES } from "./filters";

test("a link gives the filters that it was made from", () => {
  expect(filtersOf(new URLSearchParams("job=a1&state=failed"))).toEqual({
    jobId: "a1",
    state: WebhookDelivery_State.FAILED,
  });
  const states = STATE_NAMES.map((state) => filtersOf(new URLSearchParams({ state })).state);
  expect(new Set(states).size).toBe(3);
});

test("what is not a filter is left out", () => {
  expect(filtersOf(new URLSearchParams("state=lost&x=1"))).toEqual({
    jobId: "",
    state: WebhookDelivery_State.UNSPECIFIED,
  });
});
