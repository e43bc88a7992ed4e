// Compiled with the generated stubs: a call, and the reason of its error. It reads a
// google.rpc.Status from stdin and prints the reason in it.
import { readFileSync } from "node:fs";

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";

import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "./gen/google/rpc/status_pb.js";
import { IngestService } from "./gen/ingot/v1/ingest_service_pb.js";
import { JobService } from "./gen/ingot/v1/job_service_pb.js";
import { JobState } from "./gen/ingot/v1/job_pb.js";
import { Reason } from "./gen/ingot/v1/reason_pb.js";

export async function ingest(transport: Transport, url: string): Promise<boolean> {
  try {
    const { job } = await createClient(IngestService, transport).ingest({ url });
    for await (const update of createClient(JobService, transport).watchJob({ jobId: job?.id })) {
      console.log(update);
    }
    return job?.state === JobState.SUCCEEDED;
  } catch (error) {
    const [info] = ConnectError.from(error, Code.Unknown).findDetails(ErrorInfoSchema);
    return info?.reason === Reason[Reason.SHUTTING_DOWN];
  }
}

const status = fromBinary(StatusSchema, readFileSync(0));
const info = status.details.map((detail) => anyUnpack(detail, ErrorInfoSchema)).find(Boolean);
console.log(info?.domain, info?.reason);
