import { create } from "@bufbuild/protobuf";
import { MediaSchema } from "@ingot/client/v1";
import { expect, test } from "vitest";
import { MediaList, type MediaPage } from "./media_list.svelte";

function pages(...sizes: number[]) {
  const asked: string[] = [];
  const list = new MediaList((token) => {
    const index = Number(token);
    asked.push(token);
    const media = Array.from({ length: sizes[index] ?? 0 }, (_, each) =>
      create(MediaSchema, { id: `${index}-${each}` }),
    );
    const nextPageToken = index + 1 < sizes.length ? String(index + 1) : "";
    return Promise.resolve<MediaPage>({ media, nextPageToken, rebuilding: index === 0 });
  });
  return { asked, list };
}

test("a page is loaded when it is wanted, and the list says when it is complete", async () => {
  const { asked, list } = pages(2, 1);
  await Promise.all([list.more(), list.more()]);
  expect(asked).toEqual([""]);
  expect([list.items.length, list.complete, list.rebuilding]).toEqual([2, false, true]);
  await list.more();
  await list.more();
  expect(asked).toEqual(["", "1"]);
  expect([list.items.length, list.complete, list.rebuilding]).toEqual([3, true, false]);
});

test("pages without a match are skipped", async () => {
  const { asked, list } = pages(0, 0, 1);
  await list.more();
  expect(asked).toHaveLength(3);
  expect(list.items.map(({ id }) => id)).toEqual(["2-0"]);
});

test("after an error the same page can be asked for again", async () => {
  let fails = true;
  const list = new MediaList(() =>
    fails
      ? Promise.reject(new Error("no network"))
      : Promise.resolve({ media: [], nextPageToken: "", rebuilding: false }),
  );
  await list.more();
  expect(list.error).toEqual(new Error("no network"));
  fails = false;
  await list.more();
  expect([list.error, list.complete]).toEqual([undefined, true]);
});
