/**
 * What came with the address: `?url=` of a bookmarklet or a link, or what another app shared. It is
 * taken out of the address, so that it does not come back with a reload.
 */
export function takeSharedText(): string {
  const query = new URLSearchParams(window.location.search);
  const shared = ["url", "text", "title"].flatMap((name) => query.get(name) ?? []);
  if (!shared.length) return "";
  const address = window.location.pathname + window.location.hash;
  window.history.replaceState(null, "", address);
  return query.get("url") ?? shared.join(" ");
}

/** A bookmark that opens this page with the link of the page that is shown. */
export function bookmarklet(): string {
  const page = window.location.origin + window.location.pathname;
  return `javascript:void open(${JSON.stringify(`${page}?url=`)}+encodeURIComponent(location.href))`;
}
