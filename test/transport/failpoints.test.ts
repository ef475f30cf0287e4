import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import t from "tap";
import { HttpsReplicaEndpoint } from "#lib/transport/https-replica-client.js";
import { HashingReplica, newHeader, newLanes, startServer, testPki, until } from "./hosts.js";

const pki = await testPki();
const lanes = newLanes();
t.teardown(async () => {
  await lanes.close();
  await pki.remove();
});

function startHost(role: string, failpoint: string, ...args: string[]): ChildProcess {
  const child = fork(
    new URL("./crashing-host.ts", import.meta.url),
    [role, pki.directory, ...args],
    {
      execArgv: ["--import=tsx"],
      env: { ...process.env, TIDEMARK_FAILPOINT: failpoint },
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    },
  );
  t.teardown(() => child.kill("SIGKILL"));
  return child;
}

void t.test("put: the primary dies in the middle of its second segment", async (t) => {
  const replica = new HashingReplica();
  await using server = await startServer(pki, replica);
  const primary = startHost("primary", "put:2", String(server.port), JSON.stringify(newHeader(2)));
  const [, signal] = (await once(primary, "exit")) as [number | null, string | null];
  t.equal(signal, "SIGKILL");
  await until(() => replica.reserved.length === 2 && replica.openSlots.size === 0);
  t.same([...replica.completed.keys()], [0]);
  t.ok(replica.writtenBytes > 4 << 20, "some of the second segment had arrived");
  t.equal(replica.aborted.length, 1);
});

void t.test("acknowledge: the replica dies when it has committed and not answered", async (t) => {
  const child = startHost("replica", "acknowledge:1");
  const exit = once(child, "exit");
  const [port] = (await once(child, "message")) as [number];
  const endpoint = new HttpsReplicaEndpoint({
    replicaUrl: `https://127.0.0.1:${port}`,
    tls: () => pki.primary,
    lanes,
  });
  const { vmId, deltaId, attempt, generation, ...header } = newHeader(0);
  await endpoint.openDelta({ vmId, deltaId, attempt, generation, ...header });
  const commit = endpoint.commit({ vmId, deltaId, attempt, generation, digest: "0".repeat(64) });
  await t.rejects(commit, { code: "UNREACHABLE", retryable: true });
  t.equal((await exit)[1], "SIGKILL");
  await endpoint.close();
});
