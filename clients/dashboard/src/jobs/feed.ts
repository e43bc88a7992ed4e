import { hasEnded, IngotError } from "@ingot/client";

import { client, messageOf } from "../connection/client";
import { connection } from "../connection/connection.svelte";
import { session } from "../session/session.svelte";
import { jobStore } from "./store.svelte";

/** How many jobs the page begins with; the list loads older ones on demand. */
const SNAPSHOT_SIZE = 1000;
/** How many messages are taken in one go. A snapshot comes at once, and must not block the page. */
const MESSAGES_AT_ONCE = 50;
/** How long to wait before another watch, after an error that ends one for good. */
const PAUSE_MS = 5000;

/**
 * Watches all jobs, for as long as the page is open: the one stream of the whole page.
 *
 * A browser opens at most six connections to a server, so a stream for each job would block the
 * page. After a lost connection the watch continues by its token. It ends if the server wants to
 * know who reads the page; logging in loads the page again.
 */
export async function watchAllJobs(): Promise<void> {
  for (;;) {
    await session.check();
    if (session.state === "loggedOut") return;
    try {
      await watchOnce();
    } catch (error) {
      connection.lost(new Date(), messageOf(error));
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

async function watchOnce(): Promise<void> {
  let snapshot: Set<string> | undefined;
  let taken = 0;
  for await (const event of client.watchJobs({ snapshotSize: SNAPSHOT_SIZE })) {
    taken += 1;
    if (taken % MESSAGES_AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve));
    switch (event.type) {
      case "connected":
        connection.connected();
        jobStore.countSoon();
        snapshot = event.resumed ? undefined : new Set();
        break;
      case "disconnected":
        connection.lost(event.since, event.error.message);
        break;
      case "job":
        snapshot?.add(event.job.id);
        jobStore.receive(event.job);
        break;
      case "removed":
        jobStore.remove(event.jobId);
        break;
      case "snapshotEnd":
        if (snapshot) dropOthers(snapshot);
        snapshot = undefined;
        jobStore.show();
        jobStore.complete = true;
    }
  }
}

/**
 * Drops the jobs that a new snapshot should have and does not have: their records are gone. Jobs
 * that are too old for it may have ended unseen, so each is asked for.
 */
function dropOthers(snapshot: ReadonlySet<string>): void {
  const oldest = snapshot.size < SNAPSHOT_SIZE ? "" : ([...snapshot].sort()[0] ?? "");
  for (const [id, { job }] of [...jobStore.entries]) {
    if (snapshot.has(id) || id.startsWith("cached-")) continue;
    if (id > oldest) jobStore.remove(id);
    else if (!hasEnded(job)) void refresh(id);
  }
}

async function refresh(id: string): Promise<void> {
  try {
    jobStore.receive((await client.job(id)).latest);
  } catch (error) {
    if (error instanceof IngotError && error.reason === "JOB_NOT_FOUND") jobStore.remove(id);
  }
}
