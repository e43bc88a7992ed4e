/** The server and the origin that the tests use; tests/e2e/test_typescript.py starts them. */
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { Client, type ClientOptions } from "../src/index.js";

export const ADDRESS = setting("INGOT_TEST_SERVER");

/** Return the URL of a file at the origin: clip.mp4, slow.mp4 (seconds long), or one that is gone. */
export function originUrl(path: string): string {
  return setting("INGOT_TEST_ORIGIN") + path;
}

/** Return a client that uses one of the two protocols. */
export function client(protocol: "Connect" | "gRPC-Web", options: ClientOptions = {}): Client {
  if (protocol === "Connect") return new Client(ADDRESS, options);
  return new Client(ADDRESS, {
    ...options,
    transport: createGrpcWebTransport({ baseUrl: ADDRESS }),
  });
}

export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set; run tests/e2e/test_typescript.py`);
  return value;
}

/** Return all that a generator yields. */
export async function collect<T>(generator: AsyncGenerator<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const each of generator) all.push(each);
  return all;
}
