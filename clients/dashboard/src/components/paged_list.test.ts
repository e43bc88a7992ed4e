import { expect, test } from "vitest";

import { PagedList } from "./paged_list.svelte";

const PAGE_SIZE = 2;

interface Thing {
  id: string;
  state: string;
}

function thing(id: string, state = "done"): Thing {
  return { id, state };
}

/** A server that has these things, latest first, and a list of them. */
function serving(...stored: Thing[]) {
  const list = new PagedList<Thing>((token) => {
    const rest = stored.filter(({ id }) => token === "" || id < token);
    const items = rest.slice(0, PAGE_SIZE);
    const last = items.at(-1)?.id ?? "";
    return Promise.resolve({ items, nextPageToken: rest.length > PAGE_SIZE ? last : "" });
  });
  const shown = () => list.items.map(({ id }) => id);
  const states = () => list.items.map(({ state }) => state);
  return { list, stored, shown, states };
}

test("pages follow each other until there are no more", async () => {
  const { list, shown } = serving(thing("c"), thing("b"), thing("a"));
  await Promise.all([list.more(), list.more()]);
  expect([shown(), list.complete]).toEqual([["c", "b"], false]);
  await list.more();
  await list.more();
  expect([shown(), list.complete]).toEqual([["c", "b", "a"], true]);
});

test("a refresh shows what is new, what has changed and what is gone, and keeps later pages", async () => {
  const { list, stored, shown, states } = serving(thing("d", "waits"), thing("c"), thing("a"));
  await list.more();
  await list.more();
  stored.splice(0, 1, thing("e"), thing("d", "failed"));
  await list.refresh();
  expect([shown(), list.complete]).toEqual([["e", "d", "c", "a"], true]);
  expect(states()).toEqual(["done", "failed", "done", "done"]);
  stored.splice(0);
  await list.refresh();
  expect([shown(), list.complete]).toEqual([[], true]);
});

test("a refresh of the first page alone goes on from the new one", async () => {
  const { list, stored, shown } = serving(thing("c"), thing("b"), thing("a"));
  await list.more();
  stored.unshift(thing("e"), thing("d"));
  await list.refresh();
  await list.more();
  await list.more();
  expect([shown(), list.complete]).toEqual([["e", "d", "c", "b", "a"], true]);
});

test("an item that was changed takes its own place, a new one the first", async () => {
  const { list, states } = serving(thing("b", "failed"), thing("a"));
  await list.more();
  list.take(thing("b", "waits"));
  list.take(thing("c", "new"));
  expect(states()).toEqual(["new", "waits", "done"]);
  list.remove("b");
  expect(states()).toEqual(["new", "done"]);
});

test("what was changed during a call is not undone by its answer", async () => {
  const { list, stored, shown, states } = serving(thing("b", "old"), thing("a"));
  const loading = list.more();
  list.take(thing("b", "new"));
  await loading;
  expect([shown(), states()]).toEqual([
    ["b", "a"],
    ["new", "done"],
  ]);
  const refreshing = list.refresh();
  list.remove("a");
  await refreshing;
  expect(shown()).toEqual(["b"]);
  stored.splice(1);
  await list.refresh();
  expect(states()).toEqual(["old"]);
});

test("what was there stays after an error, and the next call may succeed", async () => {
  let fails = false;
  const list = new PagedList<Thing>(() =>
    fails
      ? Promise.reject(new Error("no network"))
      : Promise.resolve({ items: [thing("a")], nextPageToken: "" }),
  );
  await list.more();
  fails = true;
  await list.refresh();
  expect([list.error, list.items.length]).toEqual([new Error("no network"), 1]);
  fails = false;
  await list.refresh();
  expect([list.error, list.items.length]).toEqual([undefined, 1]);
});
