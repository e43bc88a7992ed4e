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

/** A picture is its own thumbnail if it has no more bytes than this. */
const SMALL_BYTES = 500_000n;

/** Returns the internal address of a picture that can be shown as a thumbnail. */
export function smallPicture(media: Media): string | undefined {
  const { blob } = media;
  if (kindOf(media) !== MediaKind.IMAGE || !blob || blob.sizeBytes > SMALL_BYTES) return undefined;
  return blob.url;
}

/**
 * Returns the pictures that were made of media items, by the id of these. A picture is stored after
 * what it is made of, so a list whose latest comes first has it when it comes to that.
 */
export function framesOf(listed: readonly Media[]): Map<string, string> {
  const frames = new Map<string, string>();
  for (const media of listed) {
    const picture = media.derivedFromMediaId ? smallPicture(media) : undefined;
    if (picture) frames.set(media.derivedFromMediaId, picture);
  }
  return frames;
}

/** Returns the subtitles that a browser can show. */
export function subtitlesOf(media: Media): SideFile[] {
  return media.sideFiles.filter(
    (file) => file.kind === SideFile_Kind.SUBTITLES && file.contentType.startsWith("text/vtt"),
  );
}
