import { readKept, writeKept } from "../kept";

export type Theme = "system" | "light" | "dark";

const KEY = "theme";
const THEMES: readonly Theme[] = ["system", "light", "dark"];

class ThemeChoice {
  #chosen = $state<Theme>("system");

  constructor() {
    const kept = readKept(KEY);
    this.choose(THEMES.find((theme) => theme === kept) ?? "system");
  }

  get chosen(): Theme {
    return this.#chosen;
  }

  /** Shows the page in this theme, now and on the next visit. */
  choose(theme: Theme): void {
    this.#chosen = theme;
    writeKept(KEY, theme);
    if (theme === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
  }

  /** Goes on to the next of the three. */
  next(): void {
    this.choose(THEMES[(THEMES.indexOf(this.#chosen) + 1) % THEMES.length] ?? "system");
  }
}

export const theme = new ThemeChoice();
