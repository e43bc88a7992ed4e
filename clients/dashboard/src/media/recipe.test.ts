import { create } from "@bufbuild/protobuf";
import { MediaSchema, RecipeSchema } from "@ingot/client/v1";
import { expect, test } from "vitest";

import { describeRecipe, firstChoice, formatsFor, problemOf, recipeOf } from "./recipe";

const video = create(MediaSchema, { video: [{ codec: "h264" }], audio: [{ codec: "aac" }] });
const silent = create(MediaSchema, { video: [{ codec: "h264" }] });
const sound = create(MediaSchema, { audio: [{ codec: "mp3" }] });

test("only what a media item has can be converted", () => {
  expect(formatsFor(video)).toHaveLength(10);
  expect(formatsFor(silent)).toEqual(["mp4", "image", "storyboard"]);
  expect(formatsFor(sound)).not.toContain("mp4");
  expect(formatsFor(create(MediaSchema))).toEqual([]);
});

test("a choice becomes a recipe, which reads as it was chosen", () => {
  const choice = { ...firstChoice(video), start: "1:30", end: "2:00", evenLoudness: true };
  expect(problemOf(choice)).toBeUndefined();
  const recipe = create(RecipeSchema, recipeOf(choice));
  expect(recipe.startOffset?.seconds).toBe(90n);
  expect(describeRecipe(recipe)).toBe("MP3, 192 kbit/s, evened out, from 1:30 to 2:00");

  const picture = { ...choice, format: "image" as const, maxHeight: 360, end: "nonsense" };
  expect(problemOf(picture)).toBeUndefined();
  expect(describeRecipe(create(RecipeSchema, recipeOf(picture)))).toBe(
    "Picture of a moment, at most 360p, at 1:30",
  );
});

test.each([
  ["soon", "", "start"],
  ["", "1:2:3:4", "end"],
  ["2:00", "1:00", "order"],
  ["", "0", "order"],
  ["1", "", undefined],
])("times from %j to %j: %s", (start, end, problem) => {
  expect(problemOf({ ...firstChoice(sound), start, end })).toBe(problem);
});
