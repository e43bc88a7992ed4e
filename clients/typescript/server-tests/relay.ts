/** A relay to the server that can break connections. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

export interface Relay {
  address: string;
  /** The connections of clients that are open now. */
  connections: () => Socket[];
  /** Break all connections. */
  cut: () => void;
  close: () => void;
}

export async function relayTo(address: string): Promise<Relay> {
  const { hostname, port } = new URL(address);
  const open = new Set<Socket>();
  const clients = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    clients.add(client);
    client.on("close", () => clients.delete(client));
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      open.add(from);
      from.pipe(to);
      from.on("error", () => undefined);
      from.on("close", () => {
        open.delete(from);
        to.destroy();
      });
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cut = () => {
    for (const socket of open) socket.resetAndDestroy();
  };
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    connections: () => [...clients],
    cut,
    close: () => {
      server.close();
      cut();
    },
  };
}
