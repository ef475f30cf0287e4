import { randomInt } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:net";

/** Below those that the system gives to outgoing connections, which would take it between two lives of a host. */
const [FIRST_PORT, END_PORT] = [10_000, 30_000];

/** A port of 127.0.0.1 that nobody listens on, and that nobody gets by chance. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(FIRST_PORT, END_PORT);
    if (await isFree(port)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const listening = once(server, "listening").then(
    () => true,
    () => false,
  );
  server.listen(port, "127.0.0.1");
  const isListening = await listening;
  if (!isListening) return false;
  server.close();
  await once(server, "close");
  return true;
}
