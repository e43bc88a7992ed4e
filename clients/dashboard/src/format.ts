/** How numbers, sizes and times are written, in the language and the time zone of the page. */

const LANGUAGE = "en";
const UNITS = ["B", "KB", "MB", "GB", "TB"] as const;

const dateTime = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(LANGUAGE, { timeStyle: "medium", hourCycle: "h23" });
const ago = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: "auto", style: "narrow" });
const number = new Intl.NumberFormat(LANGUAGE);

/** `1,234`. */
export function formatNumber(value: number | bigint): string {
  return number.format(value);
}

/** `3.4 MB`, in powers of 1000 as disks and networks are sold. */
export function formatBytes(bytes: number | bigint): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const text = unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(1);
  return `${text} ${UNITS[unit] ?? "B"}`;
}

/** `3.4 MB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** `42 %`. It rounds down, so that 100 means done. */
export function formatPercent(fraction: number): string {
  return `${String(Math.floor(fraction * 100))}%`;
}

/** Playing time: `3:25`, `1:02:03`. */
export function formatLength(seconds: number): string {
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  if (parts[0] === 0) parts.shift();
  return parts
    .map((part, index) => (index ? String(part).padStart(2, "0") : String(part)))
    .join(":");
}

/** How long something took or takes: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`. */
export function formatSpan(seconds: number): string {
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${String(whole)} s`;
  const [unit, small, names] =
    whole < 3600 ? [60, 1, ["min", "s"] as const] : [3600, 60, ["h", "min"] as const];
  const rest = Math.floor((whole % unit) / small);
  const text = `${String(Math.floor(whole / unit))} ${names[0]}`;
  return rest ? `${text} ${String(rest)} ${names[1]}` : text;
}

/** `Nov 29, 2026, 10:15:04 AM`. */
export function formatDateTime(time: Date): string {
  return dateTime.format(time);
}

/** `10:15:04`. */
export function formatClock(time: Date): string {
  return clock.format(time);
}

/** `5 min ago`, `in 2 hr`. */
export function formatAge(time: Date, now: Date): string {
  const seconds = Math.round((time.getTime() - now.getTime()) / 1000);
  const size = Math.abs(seconds);
  if (size < 60) return ago.format(seconds, "second");
  if (size < 3600) return ago.format(Math.trunc(seconds / 60), "minute");
  if (size < 86_400) return ago.format(Math.trunc(seconds / 3600), "hour");
  return ago.format(Math.trunc(seconds / 86_400), "day");
}

/** Reads `90`, `1:30`, `1:02:03.5` as seconds; undefined for anything else. */
export function parseLength(text: string): number | undefined {
  const parts = text.trim().split(":");
  if (parts.length > 3 || !parts.every((part) => /^\d+(\.\d+)?$/.test(part))) return undefined;
  return parts.reduce((total, part) => total * 60 + Number(part), 0);
}
