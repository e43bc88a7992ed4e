/** Every message, enum and service of the contract, package `ingot.v1`. */
export * from "./ingot/v1/feed_pb.js";
export * from "./ingot/v1/feed_service_pb.js";
export * from "./ingot/v1/ingest_service_pb.js";
export * from "./ingot/v1/job_pb.js";
export * from "./ingot/v1/job_service_pb.js";
export * from "./ingot/v1/media_pb.js";
export * from "./ingot/v1/media_service_pb.js";
export * from "./ingot/v1/reason_pb.js";
export * from "./ingot/v1/recipe_pb.js";
export * from "./ingot/v1/source_service_pb.js";
export * from "./ingot/v1/subscription_pb.js";
export * from "./ingot/v1/subscription_service_pb.js";
export * from "./ingot/v1/system_service_pb.js";
export * from "./ingot/v1/webhook_pb.js";
export * from "./ingot/v1/webhook_service_pb.js";
