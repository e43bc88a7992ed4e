import { fileURLToPath } from "node:url";

import { build, type Rolldown } from "vite";
import { expect, test } from "vitest";

const ENTRY = "\0entry";

/** Return a bundle of a program that imports from the package, as a bundler makes it for a page. */
async function bundle(program: string): Promise<string> {
  const output = (await build({
    root: fileURLToPath(new URL("..", import.meta.url)),
    configFile: false,
    logLevel: "silent",
    resolve: { alias: { "@ingot/client": fileURLToPath(new URL("index.ts", import.meta.url)) } },
    build: { write: false, minify: false, lib: { entry: "entry", formats: ["es"] } },
    plugins: [
      {
        name: "entry",
        enforce: "pre",
        resolveId: (id) => (id.endsWith("entry") ? ENTRY : undefined),
        load: (id) => (id === ENTRY ? program : undefined),
      },
    ],
  })) as Rolldown.RolldownOutput[];
  return output
    .flatMap((each) => each.output.map((file) => ("code" in file ? file.code : "")))
    .join();
}

test("what is not imported is not bundled", async () => {
  const all = await bundle(`export { Client } from "@ingot/client";`);
  const errors = await bundle(`export { IngotError } from "@ingot/client";`);
  // Bundlers say which module each part comes from.
  for (const module of ["src/client.ts", "src/upload/upload.ts", "src/upload/sha256.ts"]) {
    expect(all).toContain(module);
    expect(errors).not.toContain(module);
  }
  expect(errors).toContain("src/errors.ts");
  expect(errors.length).toBeLessThan(all.length / 2);
});
