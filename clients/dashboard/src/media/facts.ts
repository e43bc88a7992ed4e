/** Everything that is known about a media item, in words. */

import { durationMs, type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type Media, Selection_Mode, type Selection } from "@ingot/client";
import type { AudioStream, Section, VideoStream } from "@ingot/client/v1";

import { formatBytes, formatDateTime, formatLength, formatNumber } from "../format";
import { texts } from "../texts";
import { describeRecipe } from "./recipe";

export interface Fact {
  name: string;
  value: string;
  /** Where it leads: a place of the page, or a web page. */
  link?: string;
  /** Whether people copy it rather than read it. */
  isCode?: boolean;
}

export interface FactGroup {
  title: string;
  facts: Fact[];
}

const t = texts.media.details;
const LINK = /^https?:\/\//;

/** Returns the facts in groups, without what is not known. `linkToMedia` makes links in the page. */
export function factsOf(media: Media, linkToMedia: (mediaId: string) => string): FactGroup[] {
  const { source, blob } = media;
  const groups: FactGroup[] = [
    {
      title: t.groups.source,
      facts: [
        web(t.page, source?.pageUrl === media.url ? "" : (source?.pageUrl ?? "")),
        web(t.url, media.url),
        { name: t.source, value: source?.name ?? "" },
        { name: t.uploader, value: media.uploader },
        { name: t.published, value: timeOf(media.publishTime) },
        { name: t.tags, value: media.tags.join(", ") },
        { name: t.key, value: source?.key ?? "", isCode: true },
        { name: t.selection, value: media.selection ? selectionOf(media.selection) : "" },
        { name: t.section, value: media.section ? sectionOf(media.section) : "" },
        { name: t.extractor, value: extractorOf(media) },
        { name: t.format, value: formatOf(media) },
      ],
    },
    {
      title: t.groups.file,
      facts: [
        { name: t.type, value: blob?.contentType ?? "" },
        { name: t.container, value: media.formatName },
        { name: t.size, value: blob ? sizeOf(blob.sizeBytes) : "" },
        { name: t.length, value: lengthOf(media) },
        ...media.video.map((stream) => ({ name: t.video, value: videoOf(stream) })),
        ...media.audio.map((stream) => ({ name: t.audio, value: audioOf(stream) })),
        {
          name: t.playable,
          value:
            media.video.length + media.audio.length > 0 ? (media.webPlayable ? t.yes : t.no) : "",
        },
        { name: t.sha256, value: blob?.sha256 ?? "", isCode: true },
      ],
    },
    {
      title: t.groups.tags,
      facts: Object.entries(media.fileTags)
        .sort(([one], [other]) => (one < other ? -1 : 1))
        .map(([name, value]) => ({ name, value })),
    },
    {
      title: t.groups.ingot,
      facts: [
        { name: t.id, value: media.id, isCode: true },
        { name: t.address, value: blob?.url ?? "", isCode: true },
        { name: t.stored, value: timeOf(media.createTime) },
        { name: t.expires, value: media.pinned ? "" : timeOf(media.expireTime) },
        { name: t.pinned, value: media.pinned ? t.yes : "" },
        { name: t.recipe, value: media.recipe ? describeRecipe(media.recipe) : "" },
        {
          name: t.parent,
          value: media.derivedFromMediaId,
          link: linkToMedia(media.derivedFromMediaId),
          isCode: true,
        },
        { name: t.cut, value: media.truncatedFields.join(", ") },
      ],
    },
  ];
  return groups
    .map(({ title, facts }) => ({ title, facts: facts.filter(({ value }) => value !== "") }))
    .filter(({ facts }) => facts.length > 0);
}

/** Returns a fact that is a link if it leads to a web page. Sources also name `s3://` addresses. */
function web(name: string, value: string): Fact {
  return LINK.test(value) ? { name, value, link: value } : { name, value, isCode: true };
}

function timeOf(time: Timestamp | undefined): string {
  return time ? formatDateTime(timestampDate(time)) : "";
}

function sizeOf(bytes: bigint): string {
  return `${formatBytes(bytes)} (${formatNumber(bytes)} B)`;
}

function lengthOf(media: Media): string {
  const seconds = media.duration ? durationMs(media.duration) / 1000 : 0;
  return seconds > 0 ? formatLength(seconds) : "";
}

function videoOf(stream: VideoStream): string {
  const { frameRate, bitrateBps } = stream;
  const turned = stream.rotation % 180 !== 0;
  const [width, height] = turned ? [stream.height, stream.width] : [stream.width, stream.height];
  const rate = frameRate ? frameRate.numerator / frameRate.denominator : 0;
  return joined(
    stream.codec,
    stream.profile,
    `${String(width)} × ${String(height)}`,
    rate > 0 ? `${String(Math.round(rate * 100) / 100)} fps` : "",
    bitrateOf(bitrateBps),
    stream.pixelFormat,
    stream.language,
  );
}

function audioOf(stream: AudioStream): string {
  return joined(
    stream.codec,
    stream.profile,
    `${String(stream.sampleRateHz / 1000)} kHz`,
    stream.channels === 1
      ? "mono"
      : stream.channels === 2
        ? "stereo"
        : `${String(stream.channels)} channels`,
    bitrateOf(stream.bitrateBps),
    stream.language,
  );
}

function bitrateOf(bitsPerSecond: bigint): string {
  return bitsPerSecond > 0n ? `${formatNumber(bitsPerSecond / 1000n)} kbit/s` : "";
}

function extractorOf({ extraction }: Media): string {
  return extraction ? joined(extraction.extractor, extraction.extractorVersion) : "";
}

function formatOf({ extraction }: Media): string {
  return extraction
    ? joined(extraction.formatId, extraction.formatReason, extraction.shortfall?.message ?? "")
    : "";
}

function selectionOf(selection: Selection): string {
  return joined(
    selection.mode === Selection_Mode.AUDIO_ONLY ? t.soundOnly : t.best,
    selection.maxHeight === undefined ? "" : `≤ ${String(selection.maxHeight)}p`,
    selection.minHeight === undefined ? "" : `≥ ${String(selection.minHeight)}p`,
    selection.audioLanguage,
    selection.allAudioLanguages ? t.allAudioLanguages : "",
    selection.videoCodecs.join(" > "),
  );
}

function sectionOf({ startOffset, endOffset }: Section): string {
  const [start, end] = [startOffset, endOffset].map((each) =>
    formatLength(each ? durationMs(each) : 0),
  );
  return `${start ?? ""} – ${end ?? ""}`;
}

function joined(...parts: string[]): string {
  return parts.filter(Boolean).join(", ");
}
