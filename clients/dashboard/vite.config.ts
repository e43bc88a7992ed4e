import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

// Where `npm run dev` and `npm run preview` send the calls of the page.
const server = process.env["INGOT_HTTP"] ?? "http://127.0.0.1:8080";
const proxy = { "^/(ingot\\.v1\\.|session|healthz|openapi\\.json)": { target: server } };

export default defineConfig({
  plugins: [svelte()],
  // The page may be served below a path, so it names its files relative to itself.
  base: "./",
  build: {
    outDir: "../../server/ingot_server/page",
    emptyOutDir: true,
    target: "es2022",
    // The Content-Security-Policy allows no data: addresses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: { proxy },
  preview: { proxy },
  test: { include: ["src/**/*.test.ts"] },
});
