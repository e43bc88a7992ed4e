import { create } from "@bufbuild/protobuf";
import { MediaSchema } from "@ingot/client/v1";
import { expect, test } from "vitest";

import { framesOf } from "./kind";

const picture = (id: string, derivedFromMediaId: string, sizeBytes: bigint) =>
  create(MediaSchema, {
    id,
    derivedFromMediaId,
    blob: { url: `s3://bucket/${id}`, contentType: "image/jpeg", sizeBytes },
  });

test("a small picture that was made of a media item is a frame of it", () => {
  const film = create(MediaSchema, { id: "film", blob: { contentType: "video/mp4" } });
  const sound = create(MediaSchema, {
    id: "sound",
    derivedFromMediaId: "film",
    blob: { contentType: "audio/mpeg", sizeBytes: 1n },
  });
  const listed = [
    picture("large", "film", 5_000_000n),
    picture("frame", "film", 9000n),
    picture("alone", "", 9000n),
    sound,
    film,
  ];
  expect([...framesOf(listed)]).toEqual([["film", "s3://bucket/frame"]]);
});
