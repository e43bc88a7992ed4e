/** Subscriptions and their podcast feeds, in the words of the page and of the contract. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type CreateSubscriptionRequestSchema,
  type Feed,
  Selection_Mode,
  type Subscription,
} from "@ingot/client/v1";

import { texts } from "../texts";

export type Condition = "active" | "checking" | "failing" | "paused";

/** What the reader wants of a list. */
export interface Wish {
  url: string;
  mp3: boolean;
  /** Only what comes from now on. */
  markSeen: boolean;
}

/** When the last check ended, in milliseconds; 0 before the first one. */
export function lastCheckMs({ lastCheckTime }: Subscription): number {
  return lastCheckTime ? timestampMs(lastCheckTime) : 0;
}

/** `askedAfterMs` is its `lastCheckMs` when the reader asked for a check; undefined if none was asked for. */
export function conditionOf(subscription: Subscription, askedAfterMs?: number): Condition {
  if (subscription.paused) return "paused";
  const lastMs = lastCheckMs(subscription);
  if (lastMs === 0 || lastMs === askedAfterMs) return "checking";
  return subscription.lastError ? "failing" : "active";
}

/** What can be done about a check that failed; empty if only the message says it. */
export function remedyOf(reason: string): string {
  return texts.following.remedies[reason] ?? texts.remedies[reason] ?? "";
}

/** The title of the list; its URL before the first check. */
export function nameOf({ title, url }: Subscription): string {
  return title || url;
}

export function requestOf(wish: Wish): MessageInitShape<typeof CreateSubscriptionRequestSchema> {
  return {
    markSeen: wish.markSeen,
    subscription: {
      url: wish.url.trim(),
      options: { thumbnail: true },
      ...(wish.mp3 && {
        recipes: [{ format: { case: "mp3", value: {} } }],
        selection: { mode: Selection_Mode.AUDIO_ONLY },
      }),
    },
  };
}

/** What a feed is called: as its owner named it, or by what it has. */
export function feedNameOf(feed: Feed, subscriptions: readonly Subscription[]): string {
  const source = subscriptions.find(({ id }) => id === feed.subscriptionId);
  const labels = Object.entries(feed.labels).map(([key, value]) => `${key}=${value}`);
  return feed.title || (source ? nameOf(source) : labels.join(", ")) || feed.id;
}

/** The address of a feed for a player. `base` is that of the page. */
export function feedAddress(path: string, base: string): string {
  return new URL(path.replace(/^\//, ""), new URL(".", base)).href;
}
