// What to do depends on the reason: node errors.js URL
import { Client, IngotError } from "@ingot/client";

const [url = ""] = process.argv.slice(2);
const client = new Client(process.env.INGOT_HTTP ?? "http://localhost:8080");

try {
  const job = await client.ingest(url);
  const { media } = await job.wait();
  console.log("stored", media?.id);
} catch (error) {
  if (!(error instanceof IngotError)) throw error;
  switch (error.reason) {
    case "MEDIA_DOES_NOT_EXIST":
      console.log("the source has no media at this link");
      break;
    case "UNSUPPORTED_URL":
    case "INVALID_REQUEST":
      console.log("wrong input", error.violations);
      break;
    default:
      console.log(error.reason, error.message, error.metadata, error.retryDelayMs);
  }
}
