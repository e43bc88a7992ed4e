// All jobs, live: node watch.js LABEL; ends when as many jobs have succeeded as the second argument says
import { Client, hasEnded, JobState } from "@ingot/client";

const [label = "", count = "1"] = process.argv.slice(2);
const client = new Client(process.env.INGOT_HTTP ?? "http://localhost:8080");
const jobs = new Map();

const events = client.watchJobs({ labels: { batch: label }, signal: AbortSignal.timeout(60_000) });
for await (const event of events) {
  switch (event.type) {
    case "connected": // not resumed: a snapshot follows, and what is not in it is gone
      if (!event.resumed) jobs.clear();
      break;
    case "disconnected":
      console.log("stale since", event.since.toLocaleTimeString(), event.error.message);
      break;
    case "removed":
      jobs.delete(event.jobId);
      break;
    case "job":
      jobs.set(event.job.id, event.job);
      console.log(event.job.displayName, JobState[event.job.state]);
  }
  if ([...jobs.values()].filter(hasEnded).length >= Number(count)) break;
}
