// Draws the icons that public/ has as PNG files, from public/icon.svg: node icons.js CHROMIUM
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [chromium = "chromium"] = process.argv.slice(2);
const folder = new URL("public/", import.meta.url).pathname;
const icon = readFileSync(join(folder, "icon.svg"), "utf8");
/** For masks: the colour reaches every edge, and the drawing stays in the inner 80 %. */
const full = icon.replace(' rx="7"', "").replace(/(<path[^]*)(<\/svg>)/, wrap);

function wrap(_, drawing, end) {
  return `<g transform="translate(3.2 3.2) scale(0.8)">${drawing}</g>${end}`;
}

const ICONS = [
  ["icon-192.png", icon, 192],
  ["icon-512.png", icon, 512],
  ["icon-maskable-512.png", full, 512],
  ["apple-touch-icon.png", full, 180],
];
const scratch = mkdtempSync(join(tmpdir(), "icons-"));
for (const [name, svg, size] of ICONS) {
  const page = join(scratch, "icon.html");
  const sized = svg.replace("<svg", `<svg style="display:block" width="${size}" height="${size}"`);
  writeFileSync(page, `<body style="margin:0">${sized}`);
  execFileSync(chromium, [
    "--headless",
    "--no-sandbox",
    "--hide-scrollbars",
    "--default-background-color=00000000",
    `--window-size=${size},${size}`,
    `--screenshot=${join(folder, name)}`,
    page,
  ]);
}
rmSync(scratch, { recursive: true });
