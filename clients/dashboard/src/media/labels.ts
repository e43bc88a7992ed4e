/** Labels while they are edited: rows that may break the rules of the contract. */

export interface LabelRow {
  key: string;
  value: string;
}

export type LabelProblem = "key" | "value" | "twice";

const KEY = /^[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?$/;
const VALUE_LENGTH = 255;
export const MOST_LABELS = 64;

/** Returns a row for each label, sorted by key. */
export function rowsOf(labels: Readonly<Record<string, string>>): LabelRow[] {
  return Object.entries(labels)
    .map(([key, value]) => ({ key, value }))
    .sort((one, other) => (one.key < other.key ? -1 : 1));
}

/** Returns the labels in `rows`. Rows that are wholly empty are not there yet. */
export function labelsOf(rows: readonly LabelRow[]): Record<string, string> {
  return Object.fromEntries(rows.filter(isFilled).map(({ key, value }) => [key, value]));
}

/** Returns what is wrong with each row; undefined if nothing is. */
export function problemsOf(rows: readonly LabelRow[]): (LabelProblem | undefined)[] {
  const seen = new Set<string>();
  return rows.map((row) => {
    if (!isFilled(row)) return undefined;
    if (!KEY.test(row.key)) return "key";
    if ([...row.value].length > VALUE_LENGTH) return "value";
    if (seen.has(row.key)) return "twice";
    seen.add(row.key);
    return undefined;
  });
}

function isFilled({ key, value }: LabelRow): boolean {
  return key !== "" || value !== "";
}
