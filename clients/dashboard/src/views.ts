import type { Component } from "svelte";

import type { IconName } from "./components/icons";
import { session } from "./session/session.svelte";
import { texts } from "./texts";

/** A part of the page, with the places below its path. */
export interface View {
  /** First part of the path; empty for the view that is shown first. */
  path: string;
  label: string;
  icon: IconName;
  /** Scope without which it has nothing to show, and is not offered. */
  scope?: string;
  /** Loads the component when the view is first shown. */
  load: () => Promise<{ default: Component }>;
}

const views: readonly View[] = [
  {
    path: "",
    label: texts.views.paste,
    icon: "paste",
    load: () => import("./paste/PasteView.svelte"),
  },
  {
    path: "jobs",
    label: texts.views.jobs,
    icon: "jobs",
    load: () => import("./jobs/JobsView.svelte"),
  },
  {
    path: "library",
    label: texts.views.library,
    icon: "library",
    load: () => import("./library/LibraryView.svelte"),
  },
  {
    path: "following",
    label: texts.views.following,
    icon: "feed",
    load: () => import("./following/FollowingView.svelte"),
  },
  {
    path: "uploads",
    label: texts.views.uploads,
    icon: "upload",
    load: () => import("./uploads/UploadsView.svelte"),
  },
  {
    path: "system",
    label: texts.views.system,
    icon: "system",
    load: () => import("./system/SystemView.svelte"),
  },
  {
    path: "webhooks",
    label: texts.views.webhooks,
    icon: "webhook",
    scope: "admin",
    load: () => import("./webhooks/WebhooksView.svelte"),
  },
];

/** The views that have something to show to whoever uses the page. */
export function offeredViews(): readonly View[] {
  return views.filter(({ scope }) => scope === undefined || session.may(scope));
}

/** The view of a path; undefined for an address that leads nowhere. */
export function viewAt(path: readonly string[]): View | undefined {
  return views.find((view) => view.path === (path[0] ?? ""));
}
