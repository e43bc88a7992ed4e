import { create } from "@bufbuild/protobuf";
import { MediaSchema } from "@ingot/client/v1";
import { expect, test } from "vitest";

import { factsOf } from "./facts";

const linkTo = (mediaId: string) => `#/library/${mediaId}`;

function facts(media: Parameters<typeof create<typeof MediaSchema>>[1]) {
  const groups = factsOf(create(MediaSchema, media), linkTo);
  return new Map(groups.flatMap((group) => group.facts.map((fact) => [fact.name, fact])));
}

test("what is not known is not listed", () => {
  expect(factsOf(create(MediaSchema), linkTo)).toEqual([]);
});

test("a picture that was filmed upright is described as it is seen", () => {
  const stream = {
    codec: "h264",
    width: 1920,
    height: 1080,
    rotation: 90,
    frameRate: { numerator: 30000, denominator: 1001 },
    bitrateBps: 2_500_000n,
  };
  const found = facts({ video: [stream], webPlayable: true });
  expect(found.get("Video")?.value).toBe("h264, 1080 × 1920, 29.97 fps, 2,500 kbit/s");
  expect(found.get("Plays in browsers")?.value).toBe("yes");
});

test("only an address of the web is a link", () => {
  expect(facts({ url: "https://example.com/a" }).get("Link")?.link).toBe("https://example.com/a");
  for (const url of ["javascript:alert(1)", "s3://bucket/key", "upload:abc"]) {
    expect(facts({ url }).get("Link")?.link).toBeUndefined();
  }
});

test("a derived media item leads to what it was made of", () => {
  expect(facts({ derivedFromMediaId: "abc" }).get("Made of")?.link).toBe("#/library/abc");
});
