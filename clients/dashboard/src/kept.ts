/** What the page remembers between visits. A browser may forbid that; then it remembers nothing. */
export function readKept(key: string): string | null {
  try {
    return window.localStorage.getItem(`ingot.${key}`);
  } catch {
    return null;
  }
}

/** Remembers a value until the reader clears the data of the page. */
export function writeKept(key: string, value: string): void {
  try {
    window.localStorage.setItem(`ingot.${key}`, value);
  } catch {
    // Private windows and full disks refuse; the page works without.
  }
}
