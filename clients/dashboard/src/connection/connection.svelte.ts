/** Whether what the page shows is live. */
export type ConnectionState = "connecting" | "live" | "lost";

class ConnectionStatus {
  state = $state<ConnectionState>("connecting");
  /** Since when what is shown is stale. Set while the connection is lost. */
  staleSince = $state.raw<Date | undefined>();
  /** What happened to the connection. */
  message = $state("");

  connected(): void {
    this.state = "live";
    this.staleSince = undefined;
    this.message = "";
  }

  lost(since: Date, message: string): void {
    this.state = "lost";
    this.staleSince ??= since;
    this.message = message;
  }
}

export const connection = new ConnectionStatus();
