/**
 * SHA-256 (FIPS 180-4) of data that comes piece by piece.
 *
 * WebCrypto only takes all data at once, and only in secure contexts; a page on the local network
 * is none.
 */

const BLOCK_BYTES = 64;

/** Return the first 32 bits of the fractional parts of the `root`s of the first primes. */
function fractions(count: number, root: (prime: number) => number): Int32Array {
  const result = new Int32Array(count);
  for (let found = 0, prime = 2; found < count; prime++) {
    let isPrime = true;
    for (let divisor = 2; divisor * divisor <= prime; divisor++) isPrime &&= prime % divisor !== 0;
    if (isPrime) result[found++] = ((root(prime) % 1) * 2 ** 32) | 0;
  }
  return result;
}

const INITIAL = fractions(8, Math.sqrt);
const CONSTANTS = fractions(64, Math.cbrt);

export class Sha256 {
  private readonly state = INITIAL.slice();
  private readonly words = new Int32Array(64);
  /** The bytes after the last whole block. */
  private readonly rest = new Uint8Array(BLOCK_BYTES);
  private size = 0;

  update(data: Uint8Array): this {
    let position = 0;
    const filled = this.size % BLOCK_BYTES;
    this.size += data.length;
    if (filled > 0) {
      position = Math.min(BLOCK_BYTES - filled, data.length);
      this.rest.set(data.subarray(0, position), filled);
      if (filled + position < BLOCK_BYTES) return this;
      this.compress(new DataView(this.rest.buffer), 0);
    }
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    for (; position + BLOCK_BYTES <= data.length; position += BLOCK_BYTES) {
      this.compress(view, position);
    }
    this.rest.set(data.subarray(position));
    return this;
  }

  /** Return the hash of all data in lower-case hexadecimal. It ends the use of this object. */
  hex(): string {
    const bits = BigInt(this.size) * 8n;
    const padding = new Uint8Array(((119 - (this.size % BLOCK_BYTES)) % BLOCK_BYTES) + 9);
    padding[0] = 0x80;
    new DataView(padding.buffer).setBigUint64(padding.length - 8, bits);
    this.update(padding);
    return Array.from(this.state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  private compress(data: DataView, offset: number): void {
    const { state, words } = this;
    for (let i = 0; i < 16; i++) words[i] = data.getInt32(offset + i * 4);
    for (let i = 16; i < 64; i++) {
      const x = at(words, i - 15);
      const y = at(words, i - 2);
      const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
      const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
      words[i] = at(words, i - 16) + s0 + at(words, i - 7) + s1;
    }
    // Plain variables: destructuring a typed array is ten times as slow.
    let a = at(state, 0);
    let b = at(state, 1);
    let c = at(state, 2);
    let d = at(state, 3);
    let e = at(state, 4);
    let f = at(state, 5);
    let g = at(state, 6);
    let h = at(state, 7);
    for (let i = 0; i < 64; i++) {
      const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
      const choice = (e & f) ^ (~e & g);
      const t1 = (h + s1 + choice + at(CONSTANTS, i) + at(words, i)) | 0;
      const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
      const majority = (a & b) ^ (a & c) ^ (b & c);
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + s0 + majority) | 0;
    }
    state[0] = at(state, 0) + a;
    state[1] = at(state, 1) + b;
    state[2] = at(state, 2) + c;
    state[3] = at(state, 3) + d;
    state[4] = at(state, 4) + e;
    state[5] = at(state, 5) + f;
    state[6] = at(state, 6) + g;
    state[7] = at(state, 7) + h;
  }
}

/** Return an element that exists. */
function at(array: Int32Array, index: number): number {
  return array[index] as number;
}

const PIECE_BYTES = 1 << 20;

/**
 * Return the SHA-256 of a file. It is read in pieces of 1 MiB, so that a page stays responsive.
 *
 * Throws a DOMException (NotReadableError) if the file changes or cannot be read.
 */
export async function sha256Of(
  file: Blob,
  onProgress: (doneBytes: number) => void,
  signal?: AbortSignal,
): Promise<string> {
  const hash = new Sha256();
  for (let offset = 0; offset < file.size; offset += PIECE_BYTES) {
    signal?.throwIfAborted();
    const piece = await file.slice(offset, offset + PIECE_BYTES).arrayBuffer();
    hash.update(new Uint8Array(piece));
    onProgress(offset + piece.byteLength);
  }
  return hash.hex();
}
