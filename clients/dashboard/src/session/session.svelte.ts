/**
 * Who is logged in, if the server asks who calls. The session is in a cookie that no script can read
 * (the server's page_session.py), so the page sends the token once and never has it afterwards.
 */

import { messageOf } from "../connection/client";

const ADDRESS = new URL("session", new URL(".", window.location.href));

class Session {
  state = $state<"unknown" | "loggedIn" | "loggedOut">("unknown");
  /** The name of the token. Empty if the server does not ask who calls. */
  name = $state("");
  #scopes = $state.raw<readonly string[]>([]);

  /** Whether calls that need this scope are not refused. */
  may(scope: string): boolean {
    return this.#scopes.includes(scope);
  }

  /** Asks the server. What cannot be asked stays as it was. */
  async check(): Promise<void> {
    try {
      const response = await fetch(ADDRESS);
      if (response.status === 401) this.state = "loggedOut";
      if (!response.ok) return;
      const { name, scopes } = (await response.json()) as { name: string; scopes: string[] };
      this.name = name;
      this.#scopes = scopes;
      this.state = "loggedIn";
    } catch {
      // The watch of all jobs says that the connection is lost.
    }
  }

  /** Logs in and loads the page again. Returns why that failed. */
  async logIn(token: string): Promise<string> {
    try {
      const headers = { Authorization: `Bearer ${token}` };
      const response = await fetch(ADDRESS, { method: "POST", headers });
      if (!response.ok) return ((await response.json()) as { message: string }).message;
    } catch (error) {
      return messageOf(error);
    }
    window.location.reload();
    return "";
  }

  async logOut(): Promise<void> {
    await fetch(ADDRESS, { method: "DELETE" });
    window.location.reload();
  }
}

export const session = new Session();
