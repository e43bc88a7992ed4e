import type { IconName } from "./icons";

/** How a state looks: never by colour alone. */
export interface Look {
  icon: IconName;
  text: string;
  /** Name of its colour, `--state-NAME`; none if it is "plain". */
  tone: "queued" | "running" | "waiting" | "succeeded" | "failed" | "cancelled" | "plain";
}
