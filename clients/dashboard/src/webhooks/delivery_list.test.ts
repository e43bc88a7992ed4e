import { create } from "@bufbuild/protobuf";
import {
  type WebhookDelivery,
  WebhookDelivery_State,
  WebhookDeliverySchema,
} from "@ingot/client/v1";
import { expect, test } from "vitest";
import { DeliveryList } from "./delivery_list.svelte";

const { PENDING, DELIVERED, FAILED } = WebhookDelivery_State;
const PAGE_SIZE = 2;

function delivery(id: string, state: WebhookDelivery_State = DELIVERED): WebhookDelivery {
  return create(WebhookDeliverySchema, { id, state });
}

/** A server that has these deliveries, latest first, and a list of them. */
function serving(...stored: WebhookDelivery[]) {
  const list = new DeliveryList((token) => {
    const rest = stored.filter(({ id }) => token === "" || id < token);
    const deliveries = rest.slice(0, PAGE_SIZE);
    const last = deliveries.at(-1)?.id ?? "";
    return Promise.resolve({ deliveries, nextPageToken: rest.length > PAGE_SIZE ? last : "" });
  });
  return { list, stored, ids: () => list.items.map(({ id }) => id) };
}

test("pages follow each other until there are no more", async () => {
  const { list, ids } = serving(delivery("c"), delivery("b"), delivery("a"));
  await Promise.all([list.more(), list.more()]);
  expect([ids(), list.complete]).toEqual([["c", "b"], false]);
  await list.more();
  await list.more();
  expect([ids(), list.complete]).toEqual([["c", "b", "a"], true]);
});

test("a refresh shows what is new, what has changed and what is gone, and keeps later pages", async () => {
  const { list, stored, ids } = serving(delivery("d", PENDING), delivery("c"), delivery("a"));
  await list.more();
  await list.more();
  expect(list.changes).toBe(true);
  stored.splice(0, 1, delivery("e"), delivery("d", FAILED));
  await list.refresh();
  expect([ids(), list.complete, list.changes]).toEqual([["e", "d", "c", "a"], true, false]);
  stored.splice(0);
  await list.refresh();
  expect([ids(), list.complete]).toEqual([[], true]);
});

test("a refresh of the first page alone goes on from the new one", async () => {
  const { list, stored, ids } = serving(delivery("c"), delivery("b"), delivery("a"));
  await list.more();
  stored.unshift(delivery("e"), delivery("d"));
  await list.refresh();
  await list.more();
  await list.more();
  expect([ids(), list.complete]).toEqual([["e", "d", "c", "b", "a"], true]);
});

test("a delivery that was sent again takes its own place", async () => {
  const { list } = serving(delivery("b", FAILED), delivery("a"));
  await list.more();
  list.take(delivery("b", PENDING));
  expect(list.items.map(({ state }) => state)).toEqual([PENDING, DELIVERED]);
});

test("what was there stays after an error, and the next call may succeed", async () => {
  let fails = false;
  const list = new DeliveryList(() =>
    fails
      ? Promise.reject(new Error("no network"))
      : Promise.resolve({ deliveries: [delivery("a")], nextPageToken: "" }),
  );
  await list.more();
  fails = true;
  await list.refresh();
  expect([list.error, list.items.length]).toEqual([new Error("no network"), 1]);
  fails = false;
  await list.refresh();
  expect([list.error, list.items.length]).toEqual([undefined, 1]);
});
