/** Which parts of a file are still to be sent. */

const MIB = 1 << 20;
const LARGEST_PART_BYTES = 64 * MIB;
const SMALLEST_PART_BYTES = 8 * MIB;
/** How many parts the largest files have, unless that makes the parts too large. */
const PARTS = 1000;

/** Successive bytes of a file. */
export interface Range {
  offset: number;
  sizeBytes: number;
}

/** Return the size of the parts of a file: small, so that little is sent again after a break. */
export function partSize(fileBytes: number): number {
  const even = Math.ceil(fileBytes / PARTS);
  return Math.min(LARGEST_PART_BYTES, Math.max(SMALLEST_PART_BYTES, even));
}

/** Return the parts of a file that are not `stored`, ascending; the stored ranges are, too. */
export function missingParts(
  fileBytes: number,
  stored: readonly Range[],
  partBytes: number,
): Range[] {
  const parts: Range[] = [];
  let offset = 0;
  for (const range of [...stored, { offset: fileBytes, sizeBytes: 0 }]) {
    while (offset < range.offset) {
      const sizeBytes = Math.min(partBytes, range.offset - offset);
      parts.push({ offset, sizeBytes });
      offset += sizeBytes;
    }
    offset = Math.max(offset, range.offset + range.sizeBytes);
  }
  return parts;
}
