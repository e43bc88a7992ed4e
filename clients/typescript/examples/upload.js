// A file of this machine: node upload.js FILE
import { openAsBlob } from "node:fs";
import { basename } from "node:path";

import { Client } from "@ingot/client";

const [path = ""] = process.argv.slice(2);
const client = new Client(process.env.INGOT_HTTP ?? "http://localhost:8080");

const job = await client.upload(await openAsBlob(path), {
  filename: basename(path),
  onProgress: ({ stage, doneBytes, totalBytes }) => console.log(stage, doneBytes, "of", totalBytes),
});
const { media } = await job.wait();
console.log("stored", media?.title, media?.blob?.sha256);
