import type { Job } from "@ingot/client/v1";

import { client, messageOf } from "../connection/client";
import { notices } from "../notices/notices.svelte";
import { location } from "../routing/location.svelte";
import { texts } from "../texts";
import { jobStore } from "./store.svelte";
import { isActive, titleOf } from "./words";

/** Cancels a job. It asks nothing: a cancelled job can be retried. */
export async function cancelJob(job: Job): Promise<void> {
  try {
    const left = await client.cancel(job.id);
    jobStore.receive(left);
    const say = isActive(left) ? texts.job.othersWantIt : texts.job.didCancel;
    notices.say(say(titleOf(job)));
  } catch (error) {
    notices.fail(texts.job.cancelFailed, messageOf(error));
  }
}

/** Retries a job. `follow` then shows the new one. */
export async function retryJob(job: Job, follow = false): Promise<void> {
  try {
    const { latest } = await client.retry(job.id);
    jobStore.take(latest);
    notices.say(texts.job.didRetry(titleOf(job)));
    if (follow) location.go(["jobs", latest.id]);
  } catch (error) {
    notices.fail(texts.job.retryFailed, messageOf(error));
  }
}

/** Saves the file of a stored media item, by its signed link, with the browser's own download. */
export async function saveMedia(mediaId: string): Promise<void> {
  try {
    const { url } = await client.downloadUrl(mediaId);
    const link = document.createElement("a");
    link.href = url;
    link.download = "";
    link.click();
  } catch (error) {
    notices.fail(texts.job.saveFailed, messageOf(error));
  }
}
