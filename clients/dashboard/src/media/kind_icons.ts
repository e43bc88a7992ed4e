import { MediaKind } from "@ingot/client/v1";

import type { IconName } from "../components/icons";
import { texts } from "../texts";

const { kinds } = texts.library;

/** How each kind of media looks and what it is called. */
export const KINDS: Readonly<Record<MediaKind, { icon: IconName; name: string }>> = {
  [MediaKind.UNSPECIFIED]: { icon: "file", name: kinds.other },
  [MediaKind.VIDEO]: { icon: "video", name: kinds.video },
  [MediaKind.AUDIO]: { icon: "audio", name: kinds.audio },
  [MediaKind.IMAGE]: { icon: "image", name: kinds.image },
  [MediaKind.OTHER]: { icon: "file", name: kinds.other },
};
