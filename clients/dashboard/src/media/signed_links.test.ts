import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { SignedLinks } from "./signed_links";

const HOUR_MS = 3_600_000;

function server(lifetimeMs: number) {
  const asked: string[] = [];
  const links = new SignedLinks((name) => {
    asked.push(name);
    const expireTime = timestampFromMs(Date.now() + lifetimeMs);
    return Promise.resolve({ url: `https://s3.example/${name}?${asked.length}`, expireTime });
  });
  return { asked, links };
}

test("a link is asked for once while it works", async () => {
  const { asked, links } = server(HOUR_MS);
  const both = await Promise.all([links.get("a"), links.get("a")]);
  expect(both).toEqual(["https://s3.example/a?1", "https://s3.example/a?1"]);
  await links.get("a");
  expect(asked).toEqual(["a"]);
});

test("a link that ends within a minute, or has failed, is asked for again", async () => {
  const short = server(30_000);
  await short.links.get("a");
  await short.links.get("a");
  expect(short.asked).toEqual(["a", "a"]);

  const long = server(HOUR_MS);
  await long.links.get("s3://b/k");
  long.links.forget("s3://b/k");
  await long.links.get("s3://b/k");
  expect(long.asked).toEqual(["s3://b/k", "s3://b/k"]);
});

test("few are asked for at once, and an error is not kept", async () => {
  let open = 0;
  let most = 0;
  let calls = 0;
  const links = new SignedLinks(async () => {
    calls += 1;
    const isFirst = calls === 1;
    open += 1;
    most = Math.max(most, open);
    await new Promise((resolve) => setTimeout(resolve, 1));
    open -= 1;
    if (isFirst) throw new Error("no network");
    return { url: "https://s3.example/x" };
  });
  const names = Array.from({ length: 12 }, (_, index) => String(index));
  const results = await Promise.allSettled(names.map((name) => links.get(name)));
  expect(results.filter((result) => result.status === "rejected")).toHaveLength(1);
  expect(most).toBeLessThanOrEqual(3);
  expect(await links.get("0")).toBe("https://s3.example/x");
});
