import { expect, test } from "vitest";
import { columnsOf, parseWaveform } from "./waveform";

const file = {
  version: 2,
  channels: 1,
  sample_rate: 8,
  samples_per_pixel: 4,
  bits: 8,
  length: 4,
  data: [-128, 127, -32, 64, 0, 1, 0, 0],
};

test("a peak is the greater of a point's two extremes, as a share of the loudest", () => {
  expect([...parseWaveform(file).peaks]).toEqual([1, 0.5, 1 / 128, 0]);
});

test("a column has the loudest of its points, and more columns than points repeat them", () => {
  const waveform = parseWaveform(file);
  expect([...columnsOf(waveform, 2)]).toEqual([1, 1 / 128]);
  expect([...columnsOf(waveform, 8)].slice(0, 4)).toEqual([1, 1, 0.5, 0.5]);
  expect([...columnsOf(parseWaveform({ ...file, data: [] }), 2)]).toEqual([0, 0]);
});

test.each([null, "text", {}, { ...file, version: 1 }, { ...file, channels: 2 }])(
  "anything but a waveform is refused: %j",
  (wrong) => {
    expect(() => parseWaveform(wrong)).toThrow("not a waveform");
  },
);
