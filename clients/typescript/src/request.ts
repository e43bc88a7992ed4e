/** Parts of requests that more than one method of the client needs. */
import type { DescMessage, Message, MessageInitShape } from "@bufbuild/protobuf";

/** The fields of a message as an object literal, without those that `Without` names. */
export type Fields<Desc extends DescMessage, Without extends string = never> = Omit<
  Exclude<MessageInitShape<Desc>, Message>,
  "$typeName" | Without
>;

/** The form of Media.id: 52 characters of base32. */
const MEDIA_ID = /^[a-z2-7]{52}$/;

/** Return the field for a name: what has the form of a media id is one, all else is a URL. */
export function mediaName(
  name: string,
): { case: "mediaId"; value: string } | { case: "url"; value: string } {
  return { case: MEDIA_ID.test(name) ? "mediaId" : "url", value: name };
}

/** Return a new request id, which makes a repeated call safe. */
export function newRequestId(): string {
  // crypto.randomUUID exists in secure contexts only, and a page on the local network is none.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
