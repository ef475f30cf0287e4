/** Several ingest threads on one port, over descriptors that the addon opens. */
import { readdir } from "node:fs/promises";
import { binding } from "#lib/tracking/binding.js";
import { PeerServer } from "#lib/transport/peer-server.js";
import t from "tap";
import {
  connectTo,
  generatedSource,
  HashingReplica,
  newHeader,
  newLanes,
  startServer,
  testPki,
  until,
} from "./hosts.js";

const small = { seed: 3, pieceBytes: 4096, pieceCount: 1 };
const pki = await testPki();
const warnings: string[] = [];
t.teardown(() => pki.remove());

function startShared(replica: HashingReplica, port = 0): Promise<PeerServer> {
  return startServer(pki, replica, {
    port,
    workerCount: 2,
    openSocket: (host, at) => binding.reusePortSocket(host, at),
    onWarning: (message) => warnings.push(message),
  });
}

/** Each lane pool connects anew, so that the kernel chooses a thread again. */
async function sendAnew(server: PeerServer, replica: HashingReplica): Promise<void> {
  const lanes = newLanes(1);
  const client = connectTo(server, pki, lanes);
  const header = newHeader();
  await client.openDelta(header);
  replica.place = {};
  await client.putSegment(generatedSource(header.deltaId, 0, small)).finally(async () => {
    await client.close();
    await lanes.close();
  });
}

void t.test("two threads share the port, and one that breaks is replaced", async (t) => {
  const replica = new HashingReplica();
  const server = await startShared(replica);
  t.equal(server.workerCount, 2);
  while (replica.threadCount < 2) await sendAnew(server, replica);

  const lanes = newLanes(1);
  const client = connectTo(server, pki, lanes);
  const header = newHeader();
  await client.openDelta(header);
  replica.place = { dieAtBytes: 0 };
  await t.rejects(client.putSegment(generatedSource(header.deltaId, 0, small)), {
    code: "UNREACHABLE",
  });
  await until(() => warnings.some((warning) => /a planted defect/.test(warning)));
  await until(() => server.workerCount === 2);
  t.equal(replica.openSlots.size, 0);
  for (let count = 0; count < 3; count += 1) await sendAnew(server, replica);
  await client.close();
  await lanes.close();
  await server.close();
});

void t.test("closing leaves neither descriptor nor port behind", async (t) => {
  const replica = new HashingReplica();
  const first = await startShared(replica);
  const { port } = first;
  await first.close();
  const openCount = (await readdir("/proc/self/fd")).length;
  const second = await startShared(replica, port);
  t.equal(second.port, port);
  await sendAnew(second, replica);
  await second.close();
  t.ok((await readdir("/proc/self/fd")).length <= openCount);
});

void t.test("a port that an ordinary socket holds is IN_USE", async (t) => {
  const replica = new HashingReplica();
  const plain = await startServer(pki, replica);
  await t.rejects(startShared(replica, plain.port), { code: "IN_USE" });
  await plain.close();
});
