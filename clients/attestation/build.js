/**
 * Bundles src/attestation.js with all that it needs into one file that reads nothing else:
 *
 *     node build.js PATH   writes PATH.js, and PATH.LICENSES.txt of what it contains
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { builtinModules } from "node:module";
import path from "node:path";
import process from "node:process";

import { rolldown } from "rolldown";

const builtin = new Set(builtinModules);
/** What jsdom does when it is loaded, and a bundle cannot. */
const inlined = {
  name: "inlined",
  resolveId(name) {
    if (builtin.has(name)) return { id: `node:${name}`, external: true };
    // Pictures in a canvas are an option of jsdom.
    if (name === "canvas") return "\0absent";
    // Its other build reads files.
    if (name === "css-tree") return this.resolve("css-tree/dist/csstree.esm");
    return null;
  },
  load(id) {
    return id === "\0absent" ? 'throw new Error("absent")' : null;
  },
  async transform(code, id) {
    if (id.endsWith("computed-style.js")) {
      const sheet = path.resolve(path.dirname(id), "../../../browser/default-stylesheet.css");
      const text = JSON.stringify(await readFile(sheet, "utf8"));
      return replaced(code, /fs\.readFileSync\([^;]*?\);/s, () => `${text};`);
    }
    if (id.endsWith("XMLHttpRequest-impl.js")) {
      return replaced(code, 'require.resolve("./xhr-sync-worker.js")', () => '""');
    }
    return null;
  },
};

function replaced(code, what, by) {
  const found = code.replace(what, by);
  if (found === code) throw new Error(`jsdom has no ${what} any more`);
  return found;
}

/** Returns the licenses of the packages with these modules. */
async function licenses(modules) {
  const folders = new Set();
  for (const id of modules) {
    const folder = /^.*\/node_modules\/(@[^/]+\/)?[^/]+/.exec(id)?.[0];
    if (folder) folders.add(folder);
  }
  const texts = [];
  for (const folder of [...folders].sort()) {
    const { name, version, license } = JSON.parse(
      await readFile(path.join(folder, "package.json"), "utf8"),
    );
    const file = (await readdir(folder)).find((each) => /^licen[cs]e/i.test(each));
    const text = file ? await readFile(path.join(folder, file), "utf8") : "";
    texts.push(`${name} ${version} (${license})\n\n${text.trim()}\n`);
  }
  return texts.join(`\n${"-".repeat(100)}\n\n`);
}

const target = process.argv[2];
const bundle = await rolldown({
  input: path.join(import.meta.dirname, "src/attestation.js"),
  platform: "node",
  transform: { define: { "process.env": "({})" } },
  plugins: [inlined],
});
const { output } = await bundle.generate({
  format: "esm",
  minify: true,
  codeSplitting: false,
  comments: false,
  intro: 'const __dirname = "/";',
});
await writeFile(`${target}.js`, output[0].code);
await writeFile(`${target}.LICENSES.txt`, await licenses(output[0].moduleIds));
