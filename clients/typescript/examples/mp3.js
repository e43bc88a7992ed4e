// From a link to an MP3 file: node mp3.js URL FILE
import { writeFile } from "node:fs/promises";

import { Client } from "@ingot/client";

const [url = "", path = ""] = process.argv.slice(2);
const client = new Client(process.env.INGOT_HTTP ?? "http://localhost:8080");

const job = await client.ingest(url, { recipes: [{ format: { case: "mp3", value: {} } }] });
for await (const { displayName, progress } of job) {
  console.log(displayName, `${Math.round((progress?.fraction ?? 0) * 100)} %`);
}
const { conversions } = await job.wait(); // throws an IngotError if the job failed

for (const { id } of conversions) {
  const { url } = await client.downloadUrl(id);
  const response = await fetch(url);
  await writeFile(path, new Uint8Array(await response.arrayBuffer()));
}
