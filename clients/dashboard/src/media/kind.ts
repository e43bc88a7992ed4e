/** What a media item is to a person who looks at it. */

import { type Media, MediaKind, type SideFile, SideFile_Kind } from "@ingot/client/v1";

/** Returns the kind of a stored media item, by what its file has. */
export function kindOf(media: Media): MediaKind {
  if (media.blob?.contentType.startsWith("image/")) return MediaKind.IMAGE;
  if (media.video.length > 0) return MediaKind.VIDEO;
  if (media.audio.length > 0) return MediaKind.AUDIO;
  return MediaKind.OTHER;
}

/** Returns the stored thumbnail, or undefined if there is none. */
export function thumbnailOf(media: Media): SideFile | undefined {
  return media.sideFiles.find((file) => file.kind === SideFile_Kind.THUMBNAIL);
}

/** Returns the subtitles that a browser can show. */
export function subtitlesOf(media: Media): SideFile[] {
  return media.sideFiles.filter(
    (file) => file.kind === SideFile_Kind.SUBTITLES && file.contentType.startsWith("text/vtt"),
  );
}
