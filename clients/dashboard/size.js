// Checks what a first visit loads: the page and every script and style it names, compressed.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const LIMIT_BYTES = 120 * 1024;
const page = new URL("../../server/ingot_server/page/", import.meta.url);

const html = readFileSync(new URL("index.html", page), "utf8");
const seen = new Set();

/** Sums the compressed sizes of a file and of what it imports at once. */
function weigh(path) {
  if (seen.has(path)) return 0;
  seen.add(path);
  const content = readFileSync(new URL(path, page));
  let bytes = gzipSync(content).length;
  if (path.endsWith(".js")) {
    const imports = content.toString().matchAll(/(?:^|[;}\n])import(?:[^("']*?from)?"(\.[^"]+)"/g);
    for (const [, name] of imports) {
      bytes += weigh(new URL(name, new URL(path, page)).href.slice(page.href.length));
    }
  }
  return bytes;
}

let total = gzipSync(html).length;
for (const [, path] of html.matchAll(/(?:src|href)="\.\/(assets\/[^"]+)"/g)) total += weigh(path);
console.log(`first load: ${(total / 1024).toFixed(1)} KB of ${LIMIT_BYTES / 1024} KB (gzip)`);
for (const path of seen) console.log(`  ${path}`);
if (total > LIMIT_BYTES) process.exit(1);
