/** The links in a text, in its order, each once. */
export function linksIn(text: string): string[] {
  const found = text.match(/https?:\/\/[^\s<>"]+/gi) ?? [];
  const links = found.map((link) => link.replace(/[.,;:!?]+$/, "").replace(/\)$/, closing));
  return [...new Set(links)].filter((link) => URL.canParse(link));
}

/** Keeps a closing bracket that has an opening one, as in links to Wikipedia. */
function closing(bracket: string, _at: number, link: string): string {
  return link.includes("(") ? bracket : "";
}
