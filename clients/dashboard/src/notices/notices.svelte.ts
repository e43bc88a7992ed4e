/** A short message about something that just happened. */
export interface Notice {
  id: number;
  tone: "news" | "failure";
  title: string;
  message: string;
}

const SHOWN_MS = 6000;
const SHOWN_NOTICES = 3;

class Notices {
  list: readonly Notice[] = $state.raw([]);
  #last = 0;

  /** Says that something is done. It goes away by itself. */
  say(title: string): void {
    const id = this.#add("news", title, "");
    setTimeout(() => {
      this.close(id);
    }, SHOWN_MS);
  }

  /** Says that something failed. It stays until the reader closes it. */
  fail(title: string, message: string): void {
    this.#add("failure", title, message);
  }

  close(id: number): void {
    this.list = this.list.filter((notice) => notice.id !== id);
  }

  #add(tone: Notice["tone"], title: string, message: string): number {
    this.#last += 1;
    const notice = { id: this.#last, tone, title, message };
    this.list = [...this.list, notice].slice(-SHOWN_NOTICES);
    return this.#last;
  }
}

export const notices = new Notices();
