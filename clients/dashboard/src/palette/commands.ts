import type { IconName } from "../components/icons";
import { jobStore } from "../jobs/store.svelte";
import { titleOf } from "../jobs/words";
import { location } from "../routing/location.svelte";
import { texts } from "../texts";
import { theme } from "../theme/theme.svelte";
import { offeredViews } from "../views";

/** Something that the palette does or leads to. */
export interface Command {
  id: string;
  label: string;
  /** Which kind of command it is, for the reader. */
  group: string;
  icon: IconName;
  run: () => void;
}

const SHOWN_COMMANDS = 50;

const go =
  (path: string[], query = {}) =>
  () => {
    location.go(path, query);
  };

/** The commands whose label has every word of `text`: views first, jobs last. */
export function findCommands(text: string): Command[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = ({ label, group }: Command) =>
    words.every((word) => `${group} ${label}`.toLowerCase().includes(word));
  return [...fixedCommands(), ...jobCommands()].filter(fits).slice(0, SHOWN_COMMANDS);
}

function fixedCommands(): Command[] {
  const { views: place, actions } = texts.palette;
  const states = { running: "running", failed: "failed" } as const;
  return [
    ...offeredViews().map(({ path, label, icon }) => {
      return { id: `view-${path}`, label, group: place, icon, run: go(path ? [path] : []) };
    }),
    ...Object.values(states).map((state): Command => {
      const label = `${texts.views.jobs}: ${texts.job.states[state]}`;
      return { id: state, label, group: place, icon: state, run: go(["jobs"], { state }) };
    }),
    {
      id: "theme",
      label: texts.palette.nextTheme,
      group: actions,
      icon: "moon",
      run: () => {
        theme.next();
      },
    },
  ];
}

function jobCommands(): Command[] {
  return [...jobStore.entries.values()]
    .sort((one, other) => (one.job.id < other.job.id ? 1 : -1))
    .map(({ job }) => {
      const label = titleOf(job);
      return {
        id: job.id,
        label,
        group: texts.palette.jobs,
        icon: "jobs",
        run: go(["jobs", job.id]),
      };
    });
}
