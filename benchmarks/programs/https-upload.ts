/**
 * A bare upload: `https-upload PKI_DIRECTORY PORT FILE`. One connection, a PUT
 * for each 8 MiB, nothing compressed or hashed. Prints what it took.
 */
import { once } from "node:events";
import { createReadStream, readFileSync, statSync } from "node:fs";
import { Agent, request } from "node:https";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

const SEGMENT_BYTES = 8 * 2 ** 20;
const [pki = "", port = "", path = ""] = process.argv.slice(2);
const agent = new Agent({
  keepAlive: true,
  maxSockets: 1,
  ca: readFileSync(join(pki, "ca.crt")),
  cert: readFileSync(join(pki, "host.crt")),
  key: readFileSync(join(pki, "host.key")),
});

async function put(start: number, end: number): Promise<void> {
  const outgoing = request({
    agent,
    method: "PUT",
    host: "127.0.0.1",
    port: Number(port),
    path: "/segment",
    headers: { "content-length": end - start },
  });
  const answered = once(outgoing, "response");
  const content = createReadStream(path, { start, end: end - 1, highWaterMark: 2 ** 20 });
  await pipeline(content, outgoing);
  const [response] = (await answered) as [import("node:http").IncomingMessage];
  response.resume();
  await once(response, "end");
  if (response.statusCode !== 204) throw new Error(`status ${response.statusCode ?? 0}`);
}

const sizeBytes = statSync(path).size;
const startedAtMs = performance.now();
const before = process.cpuUsage();
for (let offset = 0; offset < sizeBytes; offset += SEGMENT_BYTES) {
  await put(offset, Math.min(sizeBytes, offset + SEGMENT_BYTES));
}
const seconds = (performance.now() - startedAtMs) / 1000;
const { user, system } = process.cpuUsage(before);
console.log(JSON.stringify({ seconds, cpuSeconds: (user + system) / 1e6 }));
agent.destroy();
