/** The loudness of a sound over time, read from the JSON of audiowaveform (version 2, one channel). */

export interface Waveform {
  /** Peaks from 0 to 1, one for each point. */
  readonly peaks: Float32Array;
}

interface AudiowaveformFile {
  version: number;
  channels: number;
  bits: number;
  data: number[];
}

/** Returns the waveform in a parsed file. Throws an Error for anything else. */
export function parseWaveform(file: unknown): Waveform {
  if (!isAudiowaveform(file)) {
    throw new Error("not a waveform in the format of audiowaveform, version 2, with one channel");
  }
  const loudest = 2 ** (file.bits - 1);
  const peaks = new Float32Array(Math.floor(file.data.length / 2));
  for (let point = 0; point < peaks.length; point += 1) {
    const low = Math.abs(file.data[2 * point] ?? 0);
    const high = Math.abs(file.data[2 * point + 1] ?? 0);
    peaks[point] = Math.min(1, Math.max(low, high) / loudest);
  }
  return { peaks };
}

/** Returns the loudest peak of each of `count` equal parts of the sound. */
export function columnsOf(waveform: Waveform, count: number): Float32Array {
  const columns = new Float32Array(count);
  const { peaks } = waveform;
  for (let column = 0; column < count; column += 1) {
    const begin = Math.floor((column * peaks.length) / count);
    const end = Math.max(begin + 1, Math.floor(((column + 1) * peaks.length) / count));
    let peak = 0;
    for (let point = begin; point < end && point < peaks.length; point += 1) {
      peak = Math.max(peak, peaks[point] ?? 0);
    }
    columns[column] = peak;
  }
  return columns;
}

function isAudiowaveform(file: unknown): file is AudiowaveformFile {
  const found = file as Partial<AudiowaveformFile> | null;
  return (
    typeof found === "object" &&
    found?.version === 2 &&
    found.channels === 1 &&
    (found.bits === 8 || found.bits === 16) &&
    Array.isArray(found.data)
  );
}
