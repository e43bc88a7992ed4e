/**
 * Where the reader is: a path and a query after the `#` of the address, such as
 * `#/jobs?state=failed`.
 *
 * The server delivers one file, at one address, below whatever path a proxy gives it. The part
 * after the `#` never reaches it, so every place of the page is a link that works.
 */
export interface Place {
  /** The parts of the path, decoded: `["jobs", "0pgc…"]`. Empty for the first view. */
  path: readonly string[];
  query: URLSearchParams;
}

export type Query = Readonly<Record<string, string | readonly string[] | undefined>>;

/** Reads the part of an address from the `#` on. */
export function parsePlace(hash: string): Place {
  const [path = "", query = ""] = splitOnce(hash.replace(/^#/, ""), "?");
  return {
    path: path.split("/").filter(Boolean).map(decode),
    query: new URLSearchParams(query),
  };
}

/** The link to a place. Unset and empty values of the query are left out. */
export function linkTo(path: readonly string[], query: Query = {}): string {
  const written = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    const values = typeof value === "string" ? [value] : (value ?? []);
    for (const each of values) if (each) written.append(name, each);
  }
  const text = written.toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

function splitOnce(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
