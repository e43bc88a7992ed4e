// Bundles the examples for a browser: node server-tests/bundle_examples.js FOLDER
//
// A page has no files: what an example reads or writes is kept in `globalThis.files`, by path. Its
// arguments are in `globalThis.process`.
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "vite";

const [folder = ""] = process.argv.slice(2);
const examples = new URL("../examples/", import.meta.url);

/** @type {Record<string, string>} */
const MODULES = {
  "node:fs": `export const openAsBlob = async (path) => globalThis.files[path];`,
  "node:fs/promises": `
    export const writeFile = async (path, content) => { globalThis.files[path] = new Blob([content]); };`,
  "node:path": `export const basename = (path) => path.split("/").at(-1);`,
};

await build({
  root: fileURLToPath(examples),
  configFile: false,
  logLevel: "warn",
  define: { "process.env": "globalThis.process.env" },
  build: {
    outDir: folder,
    emptyOutDir: true,
    target: "es2022",
    rolldownOptions: {
      input: readdirSync(examples).map((name) => fileURLToPath(new URL(name, examples))),
      output: { entryFileNames: "[name].js" },
    },
  },
  plugins: [
    {
      name: "files-of-a-page",
      enforce: "pre",
      resolveId: (id) => (id in MODULES ? `\0${id}` : undefined),
      load: (id) => MODULES[id.slice(1)],
    },
  ],
});
